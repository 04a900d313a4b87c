/**
 * Polynomials of the elementary functions, shared by targets. Each was interpolated at Chebyshev nodes in double
 * precision; the bound is the largest absolute error of the polynomial itself. Lowest degree first.
 */

/** (exp(r) - 1 - r) / r^2 on |r| <= ln(2) / 2, within 7e-8. */
export const EXP = [0.5, 0.16666573382, 0.04166655011, 0.0083637738744, 0.0013926926615] as const;
/** (log(1 + f) - f + f^2 / 2) / f^3 on [-0.25, 0.5], within 5e-9. */
export const LOG = [0.33333332984, -0.25000002217, 0.20000142576, -0.16666604485, 0.14276448695, -0.12485616567, 0.11294726724, -0.10561169356, 0.084496040947, -0.036021495594] as const;
/** (tanh(x) / x - 1) / x^2 in u = x^2 on |x| <= 0.63, within 2e-9. */
export const TANH = [-0.33333333157, 0.13333301305, -0.053958730693, 0.021764649242, -0.0083300767905, 0.0022771549125] as const;
/** (sinh(x) / x - 1) / x^2 in u = x^2 on |x| <= 1, within 3e-10. */
export const SINH = [0.16666666645, 0.0083333400659, 0.0001983797322, 0.0000028073003627] as const;
/** (sin(x) / x - 1) / x^2 in u = x^2 on |x| <= pi / 4, within 3e-11. */
export const SIN = [-0.16666666664, 0.0083333318523, -0.0001984007466, 0.0000027248364358] as const;
/** (cos(x) - 1 + u / 2) / u^2 in u = x^2 on |x| <= pi / 4, within 2e-9. */
export const COS = [0.041666664629, -0.0013888297056, 0.000024546653574] as const;
/** (atan(x) / x - 1) / x^2 in u = x^2 on |x| <= tan(pi / 8), within 6e-10. */
export const ATAN = [-0.33333333279, 0.19999977181, -0.14284147017, 0.1107128761, -0.086240989612, 0.050466495243] as const;
/** erf(x) / x in u = x^2 on |x| <= 1, within 2e-9. */
export const ERF = [1.1283791658, -0.37612626667, 0.11283594715, -0.02685421201, 0.0051890874231, -0.00080168642839, 0.000078758750514] as const;
/** log(1 - erf(x)) on [0.98, 4], within 2e-8. */
export const LOG_ERFC = [0.00032147107591, -1.1302392016, -0.63181569924, -0.11009019778, 0.026427043949, -0.0047617172967, 0.0005972644458, -0.000046112915364, 0.0000016399380879] as const;

/** ln(2) in two parts, the first with few enough bits that products with small integers are exact in float32. */
export const LN2_HIGH = 0.693359375;
export const LN2_LOW = -2.12194440054690583e-4;

/** 2 pi to 1,200 bits, as an integer over 2^1200, by Machin's formula; for reducing huge arguments. */
export function twoPiBits(bits: number): bigint {
  const guard = 32n;
  const one = 1n << (BigInt(bits) + guard);
  const arctan = (inverse: bigint): bigint => {
    let power = one / inverse;
    let sum = power;
    for (let k = 3n; power !== 0n; k += 2n) {
      power = -power / (inverse * inverse);
      sum += power / k;
    }
    return sum;
  };
  return (2n * 4n * (4n * arctan(5n) - arctan(239n))) >> guard;
}
