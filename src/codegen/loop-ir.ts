/** The IR as loop code generation uses it: size arithmetic under names that do not meet those of expressions. */
export {
  addAffine, affineOf, axisIndex, childrenOf, constant, dimEqual, dimKey, dimValue, freeAxes, fromAffine, i64, indexBounds, isNonNegative,
  op, reduceIdentity, rewrite, sameExpr, scalarTypeOf, substituteAxes, visitExpr, castTo,
  add as dimAdd, ceilDiv as dimCeilDiv, floorDiv as dimFloorDiv, max as dimMax, min as dimMin, mul as dimMul, sub as dimSub,
} from "../ir/index.ts";
export type { Affine, Axis, Buffer, CompiledKernel, Dim, Epilogue, Expr, LoopKernel, ReduceOp, ScalarOp, ScalarType } from "../ir/index.ts";
