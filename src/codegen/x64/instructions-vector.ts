/**
 * The table's rows of vector instructions; `instructions.ts` explains the columns. Families that differ only in the
 * element type are written once and expanded: `{f}` is ps and pd, `{s}` ss and sd.
 */

const FLOAT_PACKED = [
  ["ps", "np", "66", "w0", "4"],
  ["pd", "66", "66", "wi1", "8"],
] as const;
const FLOAT_SCALAR = [
  ["ss", "f3", "66", "w0", "4"],
  ["sd", "f2", "66", "wi1", "8"],
] as const;

/** `{f}`/`{s}`: the suffix; `{p}` the prefix of map 0f; `{w}` W, as in VEX; `{W}` W for those that have VEX.W1; `{e}` element bytes. */
const FAMILIES = `
vadd{f}     ve.{p}.0f.{w}.58      RVM  =v,v,vm          full{e}
vadd{s}     ve.{p}.0f.{w}.58      RVM  =x,x,xm{e}       n{e}
vmul{f}     ve.{p}.0f.{w}.59      RVM  =v,v,vm          full{e}
vmul{s}     ve.{p}.0f.{w}.59      RVM  =x,x,xm{e}       n{e}
vsub{f}     ve.{p}.0f.{w}.5c      RVM  =v,v,vm          full{e}
vsub{s}     ve.{p}.0f.{w}.5c      RVM  =x,x,xm{e}       n{e}
vmin{f}     ve.{p}.0f.{w}.5d      RVM  =v,v,vm          full{e}
vmin{s}     ve.{p}.0f.{w}.5d      RVM  =x,x,xm{e}       n{e}
vdiv{f}     ve.{p}.0f.{w}.5e      RVM  =v,v,vm          full{e}
vdiv{s}     ve.{p}.0f.{w}.5e      RVM  =x,x,xm{e}       n{e}
vmax{f}     ve.{p}.0f.{w}.5f      RVM  =v,v,vm          full{e}
vmax{s}     ve.{p}.0f.{w}.5f      RVM  =x,x,xm{e}       n{e}
vsqrt{f}    ve.{p}.0f.{w}.51      RM   =v,vm            full{e}
vsqrt{s}    ve.{p}.0f.{w}.51      RVM  =x,~x,xm{e}      n{e}
vand{f}     ve.{p}.0f.{w}.54      RVM  =v,v,vm          full{e}
vandn{f}    ve.{p}.0f.{w}.55      RVM  =v,v,vm          full{e} zero
vor{f}      ve.{p}.0f.{w}.56      RVM  =v,v,vm          full{e}
vxor{f}     ve.{p}.0f.{w}.57      RVM  =v,v,vm          full{e} zero
vunpckl{f}  ve.{p}.0f.{w}.14      RVM  =v,v,vm          full{e}
vunpckh{f}  ve.{p}.0f.{w}.15      RVM  =v,v,vm          full{e}
vshuf{f}    ve.{p}.0f.{w}.c6      RVMI =v,v,vm,i1       full{e}
vcmp{f}     v.{p}.0f.{w}.c2       RVMI =v,v,vm,i1
vcmp{f}     e.{p}.0f.{w}.c2       RVMI =k,v,vm,i1       full{e}
vcmp{s}     v.{p}.0f.{w}.c2       RVMI =x,x,xm{e},i1
vcmp{s}     e.{p}.0f.{w}.c2       RVMI =k,x,xm{e},i1    n{e}
vmova{f}    ve.{p}.0f.{w}.28      RM   =v,vm            full
vmova{f}    ve.{p}.0f.{w}.29      MR   =mv,v            full
vmovu{f}    ve.{p}.0f.{w}.10      RM   =v,vm            full
vmovu{f}    ve.{p}.0f.{w}.11      MR   =mv,v            full
vmov{s}     ve.{p}.0f.{w}.10      RM   =x,m{e}          n{e}
vmov{s}     ve.{p}.0f.{w}.11      MR   =m{e},x          n{e}
vmov{s}     ve.{p}.0f.{w}.10      RVM  =x,x,x           n{e}
vmovnt{f}   ve.{p}.0f.{w}.2b      MR   =mv,v            full
vmovmsk{f}  v.{p}.0f.{w}.50       RM   =r4,v
vfmadd132{f} ve.66.38.{W}.98      RVM  +v,v,vm          full{e}
vfmadd213{f} ve.66.38.{W}.a8      RVM  +v,v,vm          full{e}
vfmadd231{f} ve.66.38.{W}.b8      RVM  +v,v,vm          full{e}
vfmsub132{f} ve.66.38.{W}.9a      RVM  +v,v,vm          full{e}
vfmsub213{f} ve.66.38.{W}.aa      RVM  +v,v,vm          full{e}
vfmsub231{f} ve.66.38.{W}.ba      RVM  +v,v,vm          full{e}
vfnmadd132{f} ve.66.38.{W}.9c     RVM  +v,v,vm          full{e}
vfnmadd213{f} ve.66.38.{W}.ac     RVM  +v,v,vm          full{e}
vfnmadd231{f} ve.66.38.{W}.bc     RVM  +v,v,vm          full{e}
vfnmsub132{f} ve.66.38.{W}.9e     RVM  +v,v,vm          full{e}
vfnmsub213{f} ve.66.38.{W}.ae     RVM  +v,v,vm          full{e}
vfnmsub231{f} ve.66.38.{W}.be     RVM  +v,v,vm          full{e}
vfmaddsub132{f} ve.66.38.{W}.96   RVM  +v,v,vm          full{e}
vfmaddsub213{f} ve.66.38.{W}.a6   RVM  +v,v,vm          full{e}
vfmaddsub231{f} ve.66.38.{W}.b6   RVM  +v,v,vm          full{e}
vfmsubadd132{f} ve.66.38.{W}.97   RVM  +v,v,vm          full{e}
vfmsubadd213{f} ve.66.38.{W}.a7   RVM  +v,v,vm          full{e}
vfmsubadd231{f} ve.66.38.{W}.b7   RVM  +v,v,vm          full{e}
vfmadd132{s} ve.66.38.{W}.99      RVM  +x,x,xm{e}       n{e}
vfmadd213{s} ve.66.38.{W}.a9      RVM  +x,x,xm{e}       n{e}
vfmadd231{s} ve.66.38.{W}.b9      RVM  +x,x,xm{e}       n{e}
vfmsub132{s} ve.66.38.{W}.9b      RVM  +x,x,xm{e}       n{e}
vfmsub213{s} ve.66.38.{W}.ab      RVM  +x,x,xm{e}       n{e}
vfmsub231{s} ve.66.38.{W}.bb      RVM  +x,x,xm{e}       n{e}
vfnmadd132{s} ve.66.38.{W}.9d     RVM  +x,x,xm{e}       n{e}
vfnmadd213{s} ve.66.38.{W}.ad     RVM  +x,x,xm{e}       n{e}
vfnmadd231{s} ve.66.38.{W}.bd     RVM  +x,x,xm{e}       n{e}
vfnmsub132{s} ve.66.38.{W}.9f     RVM  +x,x,xm{e}       n{e}
vfnmsub213{s} ve.66.38.{W}.af     RVM  +x,x,xm{e}       n{e}
vfnmsub231{s} ve.66.38.{W}.bf     RVM  +x,x,xm{e}       n{e}
vrcp14{f}   e.66.38.{W}.4c        RM   =v,vm            full{e}
vrcp14{s}   e.66.38.{W}.4d        RVM  =x,~x,xm{e}      n{e}
vrsqrt14{f} e.66.38.{W}.4e        RM   =v,vm            full{e}
vrsqrt14{s} e.66.38.{W}.4f        RVM  =x,~x,xm{e}      n{e}
vgetexp{f}  e.66.38.{W}.42        RM   =v,vm            full{e}
vgetexp{s}  e.66.38.{W}.43        RVM  =x,~x,xm{e}      n{e}
vgetmant{f} e.66.3a.{W}.26        RMI  =v,vm,i1         full{e}
vgetmant{s} e.66.3a.{W}.27        RVMI =x,~x,xm{e},i1   n{e}
vscalef{f}  e.66.38.{W}.2c        RVM  =v,v,vm          full{e}
vscalef{s}  e.66.38.{W}.2d        RVM  =x,x,xm{e}       n{e}
vfixupimm{f} e.66.3a.{W}.54       RVMI +v,v,vm,i1       full{e}
vfpclass{f} e.66.3a.{W}.66        RMI  =k,vm,i1         full{e}
vrange{f}   e.66.3a.{W}.50        RVMI =v,v,vm,i1       full{e}
vreduce{f}  e.66.3a.{W}.56        RMI  =v,vm,i1         full{e}
vrndscale{f} e.66.3a.{W}.{8}      RMI  =v,vm,i1         full{e}
vrndscale{s} e.66.3a.{W}.{a}      RVMI =x,~x,xm{e},i1   n{e}
vround{f}   v.66.3a.{8}           RMI  =v,vm,i1
vround{f}   e.66.3a.{W}.{8}       RMI  =v,vm,i1         full{e} name=vrndscale{f}
vround{s}   v.66.3a.{a}           RVMI =x,~x,xm{e},i1
vround{s}   e.66.3a.{W}.{a}       RVMI =x,~x,xm{e},i1   n{e} name=vrndscale{s}
vblend{f}   v.66.3a.{c}           RVMI =v,v,vm,i1
vblendv{f}  v.66.3a.{4a}          RVM4 =v,v,vm,v
vblendm{f}  e.66.38.{W}.65        RVM  =v,v,vm          full{e} selects
vmaskmov{f} v.66.38.{2c}          RVM  =v,v,mv
vmaskmov{f} v.66.38.{2e}          MVR  =mv,v,v
vtest{f}    v.66.38.{e}           RM   v,vm
vpermil{f}  ve.66.38.{w}.{0c}     RVM  =v,v,vm          full{e}
vpermil{f}  ve.66.3a.{w}.{4}      RMI  =v,vm,i1         full{e}
vcompress{f} e.66.38.{W}.8a       MR   =vm,v            n{e}
vexpand{f}  e.66.38.{W}.88        RM   =v,vm            n{e}
vpermt2{f}  e.66.38.{W}.7f        RVM  +v,v,vm          full{e}
vpermi2{f}  e.66.38.{W}.77        RVM  +v,v,vm          full{e}
vucomi{s}   ve.{m}.0f.{w}.2e      RM   x,xm{e}          n{e}
vcomi{s}    ve.{m}.0f.{w}.2f      RM   x,xm{e}          n{e}
vgatherd{f} v.66.38.{W}.92        RMV  +v,g{i}{e},+v
vgatherd{f} e.66.38.{W}.92        RM   +v,g{i}{e}       n{e} clearsmask needsmask
vgatherq{f} v.66.38.{W}.93        RMV  +{j},gv{e},+{j}
vgatherq{f} e.66.38.{W}.93        RM   +{j},gv{e}       n{e} clearsmask needsmask
vscatterd{f} e.66.38.{W}.a2       MR   =g{i}{e},v       n{e} clearsmask needsmask
vscatterq{f} e.66.38.{W}.a3       MR   =gv{e},{j}       n{e} clearsmask needsmask
`;

/** Opcodes that grow by one from single to double precision. */
const PAIRED = ["8", "a", "c", "4a", "2c", "2e", "0c", "4"];

function expandFamilies(): string {
  const rows: string[] = [];
  for (const line of FAMILIES.split("\n")) {
    const mnemonic = /^\S+/.exec(line)?.[0] ?? "";
    const types = mnemonic.includes("{f}") ? FLOAT_PACKED : mnemonic.includes("{s}") ? FLOAT_SCALAR : [];
    types.forEach(([suffix, prefix, , w, element], double) => {
      const fields: Record<string, string> = {
        f: suffix, s: suffix, p: prefix, m: double ? "66" : "np", w, W: double ? "w1" : "w0",
        i: double ? "h" : "v", j: double ? "v" : "h",
      };
      const opcode = (base: string): string => (Number.parseInt(base, 16) + double).toString(16).padStart(2, "0");
      // vtest is the one whose opcode, 0e, would be taken for the element size.
      const text = line.replace("38.{e}", `38.${opcode("0e")}`);
      rows.push(text.replace(/\{(\w+)\}/g, (_, key: string) => (key === "e" ? element : PAIRED.includes(key) ? opcode(key) : fields[key]!)));
    });
  }
  return rows.join("\n");
}

const ROWS = `
# moves
vmovdqa      ve.66.0f.w0.6f     RM  =v,vm         full name=vmovdqa32
vmovdqa      ve.66.0f.w0.7f     MR  =mv,v         full name=vmovdqa32
vmovdqu      ve.f3.0f.w0.6f     RM  =v,vm         full name=vmovdqu32
vmovdqu      ve.f3.0f.w0.7f     MR  =mv,v         full name=vmovdqu32
vmovdqa32    e.66.0f.w0.6f      RM  =v,vm         full
vmovdqa32    e.66.0f.w0.7f      MR  =mv,v         full
vmovdqa64    e.66.0f.w1.6f      RM  =v,vm         full
vmovdqa64    e.66.0f.w1.7f      MR  =mv,v         full
vmovdqu8     e.f2.0f.w0.6f      RM  =v,vm         full
vmovdqu8     e.f2.0f.w0.7f      MR  =mv,v         full
vmovdqu16    e.f2.0f.w1.6f      RM  =v,vm         full
vmovdqu16    e.f2.0f.w1.7f      MR  =mv,v         full
vmovdqu32    e.f3.0f.w0.6f      RM  =v,vm         full
vmovdqu32    e.f3.0f.w0.7f      MR  =mv,v         full
vmovdqu64    e.f3.0f.w1.6f      RM  =v,vm         full
vmovdqu64    e.f3.0f.w1.7f      MR  =mv,v         full
vmovd        ve.66.0f.w0.6e     RM  =x,r4m4       n4
vmovd        ve.66.0f.w0.7e     MR  =r4m4,x       n4
vmovq        ve.f3.0f.wi1.7e    RM  =x,xm8        n8
vmovq        ve.66.0f.wi1.d6    MR  =m8,x         n8
vmovq        ve.66.0f.w1.6e     RM  =x,r8         n8
vmovq        ve.66.0f.w1.7e     MR  =r8,x         n8
vmovlps      ve.np.0f.w0.12     RVM =x,x,m8       n8
vmovlps      ve.np.0f.w0.13     MR  =m8,x         n8
vmovhps      ve.np.0f.w0.16     RVM =x,x,m8       n8
vmovhps      ve.np.0f.w0.17     MR  =m8,x         n8
vmovhlps     ve.np.0f.w0.12     RVM =x,x,x
vmovlhps     ve.np.0f.w0.16     RVM =x,x,x
vmovddup     ve.f2.0f.wi1.12    RM  =v,v
vmovsldup    ve.f3.0f.w0.12     RM  =v,vm         full
vmovshdup    ve.f3.0f.w0.16     RM  =v,vm         full
vmovntdq     ve.66.0f.w0.e7     MR  =mv,v         full
vmovntdqa    ve.66.38.w0.2a     RM  =v,mv         full
vpmovmskb    v.66.0f.d7         RM  =r4,v
vpmaskmovd   v.66.38.w0.8c      RVM =v,v,mv
vpmaskmovd   v.66.38.w0.8e      MVR =mv,v,v
vpmaskmovq   v.66.38.w1.8c      RVM =v,v,mv
vpmaskmovq   v.66.38.w1.8e      MVR =mv,v,v
# broadcasts
vbroadcastss ve.66.38.w0.18     RM  =v,xm4        n4
vbroadcastsd ve.66.38.wi1.19    RM  =v,xm8        n8
vbroadcastf128 v.66.38.w0.1a    RM  =y,m16
vbroadcasti128 v.66.38.w0.5a    RM  =y,m16
vbroadcastf32x2 e.66.38.w0.19   RM  =v,xm8        n8
vbroadcasti32x2 e.66.38.w0.59   RM  =v,xm8        n8
vbroadcastf32x4 e.66.38.w0.1a   RM  =v,m16        n16
vbroadcastf64x2 e.66.38.w1.1a   RM  =v,m16        n16
vbroadcastf32x8 e.66.38.w0.1b   RM  =z,m32        n32
vbroadcastf64x4 e.66.38.w1.1b   RM  =z,m32        n32
vbroadcasti32x4 e.66.38.w0.5a   RM  =v,m16        n16
vbroadcasti64x2 e.66.38.w1.5a   RM  =v,m16        n16
vbroadcasti32x8 e.66.38.w0.5b   RM  =z,m32        n32
vbroadcasti64x4 e.66.38.w1.5b   RM  =z,m32        n32
vpbroadcastb ve.66.38.w0.78     RM  =v,xm1        n1
vpbroadcastw ve.66.38.w0.79     RM  =v,xm2        n2
vpbroadcastd ve.66.38.w0.58     RM  =v,xm4        n4
vpbroadcastq ve.66.38.wi1.59    RM  =v,xm8        n8
vpbroadcastb e.66.38.w0.7a      RM  =v,r4
vpbroadcastw e.66.38.w0.7b      RM  =v,r4
vpbroadcastd e.66.38.w0.7c      RM  =v,r4
vpbroadcastq e.66.38.w1.7c      RM  =v,r8
# insert and extract
vinsertps    ve.66.3a.w0.21     RVMI =x,x,xm4,i1  n4
vextractps   ve.66.3a.w0.17     MRI =r4m4,x,i1    n4
vpinsrb      ve.66.3a.w0.20     RVMI =x,x,r4m1,i1 n1
vpinsrw      ve.66.0f.w0.c4     RVMI =x,x,r4m2,i1 n2
vpinsrd      ve.66.3a.w0.22     RVMI =x,x,r4m4,i1 n4
vpinsrq      ve.66.3a.w1.22     RVMI =x,x,r8m8,i1 n8
vpextrb      ve.66.3a.w0.14     MRI =r4m1,x,i1    n1
vpextrw      ve.66.0f.w0.c5     RMI =r4,x,i1
vpextrw      ve.66.3a.w0.15     MRI =m2,x,i1      n2
vpextrd      ve.66.3a.w0.16     MRI =r4m4,x,i1    n4
vpextrq      ve.66.3a.w1.16     MRI =r8m8,x,i1    n8
vinsertf128  v.66.3a.w0.18      RVMI =y,y,xm16,i1
vinserti128  v.66.3a.w0.38      RVMI =y,y,xm16,i1
vextractf128 v.66.3a.w0.19      MRI =xm16,y,i1
vextracti128 v.66.3a.w0.39      MRI =xm16,y,i1
vinsertf32x4 e.66.3a.w0.18      RVMI =v,v,xm16,i1 n16
vinsertf64x2 e.66.3a.w1.18      RVMI =v,v,xm16,i1 n16
vinsertf32x8 e.66.3a.w0.1a      RVMI =z,z,ym32,i1 n32
vinsertf64x4 e.66.3a.w1.1a      RVMI =z,z,ym32,i1 n32
vinserti32x4 e.66.3a.w0.38      RVMI =v,v,xm16,i1 n16
vinserti64x2 e.66.3a.w1.38      RVMI =v,v,xm16,i1 n16
vinserti32x8 e.66.3a.w0.3a      RVMI =z,z,ym32,i1 n32
vinserti64x4 e.66.3a.w1.3a      RVMI =z,z,ym32,i1 n32
vextractf32x4 e.66.3a.w0.19     MRI =xm16,v,i1    n16
vextractf64x2 e.66.3a.w1.19     MRI =xm16,v,i1    n16
vextractf32x8 e.66.3a.w0.1b     MRI =ym32,z,i1    n32
vextractf64x4 e.66.3a.w1.1b     MRI =ym32,z,i1    n32
vextracti32x4 e.66.3a.w0.39     MRI =xm16,v,i1    n16
vextracti64x2 e.66.3a.w1.39     MRI =xm16,v,i1    n16
vextracti32x8 e.66.3a.w0.3b     MRI =ym32,z,i1    n32
vextracti64x4 e.66.3a.w1.3b     MRI =ym32,z,i1    n32
# permutations
vperm2f128   v.66.3a.w0.06      RVMI =y,y,ym32,i1
vperm2i128   v.66.3a.w0.46      RVMI =y,y,ym32,i1
vpermps      ve.66.38.w0.16     RVM =v,v,vm       full4
vpermd       ve.66.38.w0.36     RVM =v,v,vm       full4
vpermq       ve.66.3a.w1.00     RMI =v,vm,i1      full8
vpermpd      ve.66.3a.w1.01     RMI =v,vm,i1      full8
vpermq       e.66.38.w1.36      RVM =v,v,vm       full8
vpermpd      e.66.38.w1.16      RVM =v,v,vm       full8
vpermw       e.66.38.w1.8d      RVM =v,v,vm       full
vpermb       e.66.38.w0.8d      RVM =v,v,vm       full
vpermt2d     e.66.38.w0.7e      RVM +v,v,vm       full4
vpermt2q     e.66.38.w1.7e      RVM +v,v,vm       full8
vpermt2w     e.66.38.w1.7d      RVM +v,v,vm       full
vpermt2b     e.66.38.w0.7d      RVM +v,v,vm       full
vpermi2d     e.66.38.w0.76      RVM +v,v,vm       full4
vpermi2q     e.66.38.w1.76      RVM +v,v,vm       full8
vpermi2w     e.66.38.w1.75      RVM +v,v,vm       full
vpermi2b     e.66.38.w0.75      RVM +v,v,vm       full
vshuff32x4   e.66.3a.w0.23      RVMI =v,v,vm,i1   full4
vshuff64x2   e.66.3a.w1.23      RVMI =v,v,vm,i1   full8
vshufi32x4   e.66.3a.w0.43      RVMI =v,v,vm,i1   full4
vshufi64x2   e.66.3a.w1.43      RVMI =v,v,vm,i1   full8
vpshufd      ve.66.0f.w0.70     RMI =v,vm,i1      full4
vpshufhw     ve.f3.0f.w0.70     RMI =v,vm,i1      full
vpshuflw     ve.f2.0f.w0.70     RMI =v,vm,i1      full
vpshufb      ve.66.38.w0.00     RVM =v,v,vm       full
vpalignr     ve.66.3a.w0.0f     RVMI =v,v,vm,i1   full
valignd      e.66.3a.w0.03      RVMI =v,v,vm,i1   full4
valignq      e.66.3a.w1.03      RVMI =v,v,vm,i1   full8
vpunpcklbw   ve.66.0f.w0.60     RVM =v,v,vm       full
vpunpcklwd   ve.66.0f.w0.61     RVM =v,v,vm       full
vpunpckldq   ve.66.0f.w0.62     RVM =v,v,vm       full4
vpunpcklqdq  ve.66.0f.wi1.6c    RVM =v,v,vm       full8
vpunpckhbw   ve.66.0f.w0.68     RVM =v,v,vm       full
vpunpckhwd   ve.66.0f.w0.69     RVM =v,v,vm       full
vpunpckhdq   ve.66.0f.w0.6a     RVM =v,v,vm       full4
vpunpckhqdq  ve.66.0f.wi1.6d    RVM =v,v,vm       full8
vpacksswb    ve.66.0f.w0.63     RVM =v,v,vm       full
vpackuswb    ve.66.0f.w0.67     RVM =v,v,vm       full
vpackssdw    ve.66.0f.w0.6b     RVM =v,v,vm       full4
vpackusdw    ve.66.38.w0.2b     RVM =v,v,vm       full4
vpblendw     v.66.3a.0e         RVMI =v,v,vm,i1
vpblendd     v.66.3a.w0.02      RVMI =v,v,vm,i1
vpblendvb    v.66.3a.w0.4c      RVM4 =v,v,vm,v
vpblendmb    e.66.38.w0.66      RVM =v,v,vm       full selects
vpblendmw    e.66.38.w1.66      RVM =v,v,vm       full selects
vpblendmd    e.66.38.w0.64      RVM =v,v,vm       full4 selects
vpblendmq    e.66.38.w1.64      RVM =v,v,vm       full8 selects
vpcompressd  e.66.38.w0.8b      MR  =vm,v         n4
vpcompressq  e.66.38.w1.8b      MR  =vm,v         n8
vpexpandd    e.66.38.w0.89      RM  =v,vm         n4
vpexpandq    e.66.38.w1.89      RM  =v,vm         n8
vpgatherdd   v.66.38.w0.90      RMV +v,gv4,+v
vpgatherdd   e.66.38.w0.90      RM  +v,gv4        n4 clearsmask needsmask
vpgatherdq   v.66.38.w1.90      RMV +v,gh8,+v
vpgatherdq   e.66.38.w1.90      RM  +v,gh8        n8 clearsmask needsmask
vpgatherqd   v.66.38.w0.91      RMV +h,gv4,+h
vpgatherqd   e.66.38.w0.91      RM  +h,gv4        n4 clearsmask needsmask
vpgatherqq   v.66.38.w1.91      RMV +v,gv8,+v
vpgatherqq   e.66.38.w1.91      RM  +v,gv8        n8 clearsmask needsmask
vpscatterdd  e.66.38.w0.a0      MR  =gv4,v        n4 clearsmask needsmask
vpscatterdq  e.66.38.w1.a0      MR  =gh8,v        n8 clearsmask needsmask
vpscatterqd  e.66.38.w0.a1      MR  =gv4,h        n4 clearsmask needsmask
vpscatterqq  e.66.38.w1.a1      MR  =gv8,v        n8 clearsmask needsmask
# floats that come in one type
vrcpps       v.np.0f.53         RM  =v,vm
vrsqrtps     v.np.0f.52         RM  =v,vm
vrcpss       v.f3.0f.53         RVM =x,~x,xm4
vrsqrtss     v.f3.0f.52         RVM =x,~x,xm4
vhaddps      v.f2.0f.7c         RVM =v,v,vm
vhaddpd      v.66.0f.7c         RVM =v,v,vm
vaddsubps    v.f2.0f.d0         RVM =v,v,vm
vaddsubpd    v.66.0f.d0         RVM =v,v,vm
vdpps        v.66.3a.40         RVMI =v,v,vm,i1
# conversions
vcvtdq2ps    ve.np.0f.w0.5b     RM  =v,vm         full4
vcvtps2dq    ve.66.0f.w0.5b     RM  =v,vm         full4
vcvttps2dq   ve.f3.0f.w0.5b     RM  =v,vm         full4
vcvtdq2pd    ve.f3.0f.w0.e6     RM  =v,hm         half4
vcvtpd2dq    ve.f2.0f.wi1.e6    RM  =h,vm         full8
vcvttpd2dq   ve.66.0f.wi1.e6    RM  =h,vm         full8
vcvtps2pd    ve.np.0f.w0.5a     RM  =v,hm         half4
vcvtpd2ps    ve.66.0f.wi1.5a    RM  =h,vm         full8
vcvtss2sd    ve.f3.0f.w0.5a     RVM =x,~x,xm4     n4
vcvtsd2ss    ve.f2.0f.wi1.5a    RVM =x,~x,xm8     n8
vcvtsi2ss    ve.f3.0f.ws.2a     RVM =x,~x,rm      ns
vcvtsi2sd    ve.f2.0f.ws.2a     RVM =x,~x,rm      ns
vcvttss2si   ve.f3.0f.ws.2c     RM  =r,xm4        n4
vucomiss     ve.np.0f.w0.2e     RM  x,xm4         n4
vcvtss2si    ve.f3.0f.ws.2d     RM  =r,xm4        n4
vcvttsd2si   ve.f2.0f.ws.2c     RM  =r,xm8        n8
vcvtsd2si    ve.f2.0f.ws.2d     RM  =r,xm8        n8
vcvtusi2ss   e.f3.0f.ws.7b      RVM =x,~x,rm      ns
vcvtusi2sd   e.f2.0f.ws.7b      RVM =x,~x,rm      ns
vcvttss2usi  e.f3.0f.ws.78      RM  =r,xm4        n4
vcvttsd2usi  e.f2.0f.ws.78      RM  =r,xm8        n8
vcvtph2ps    ve.66.38.w0.13     RM  =v,hm         half
vcvtps2ph    ve.66.3a.w0.1d     MRI =hm,v,i1      half
vcvtps2udq   e.np.0f.w0.79      RM  =v,vm         full4
vcvttps2udq  e.np.0f.w0.78      RM  =v,vm         full4
vcvtudq2ps   e.f2.0f.w0.7a      RM  =v,vm         full4
vcvtudq2pd   e.f3.0f.w0.7a      RM  =v,hm         half4
vcvtpd2udq   e.np.0f.w1.79      RM  =h,vm         full8
vcvttpd2udq  e.np.0f.w1.78      RM  =h,vm         full8
vcvtps2qq    e.66.0f.w0.7b      RM  =v,hm         half4
vcvttps2qq   e.66.0f.w0.7a      RM  =v,hm         half4
vcvtps2uqq   e.66.0f.w0.79      RM  =v,hm         half4
vcvttps2uqq  e.66.0f.w0.78      RM  =v,hm         half4
vcvtpd2qq    e.66.0f.w1.7b      RM  =v,vm         full8
vcvttpd2qq   e.66.0f.w1.7a      RM  =v,vm         full8
vcvtpd2uqq   e.66.0f.w1.79      RM  =v,vm         full8
vcvttpd2uqq  e.66.0f.w1.78      RM  =v,vm         full8
vcvtqq2ps    e.np.0f.w1.5b      RM  =h,vm         full8
vcvtqq2pd    e.f3.0f.w1.e6      RM  =v,vm         full8
vcvtuqq2ps   e.f2.0f.w1.7a      RM  =h,vm         full8
vcvtuqq2pd   e.f3.0f.w1.7a      RM  =v,vm         full8
vcvtneps2bf16 e.f3.38.w0.72     RM  =h,vm         full4
vcvtne2ps2bf16 e.f2.38.w0.72    RVM =v,v,vm       full4
vdpbf16ps    e.f3.38.w0.52      RVM +v,v,vm       full4
vpmovsxbw    ve.66.38.w0.20     RM  =v,hm         half
vpmovsxbd    ve.66.38.w0.21     RM  =v,qm         quarter
vpmovsxbq    ve.66.38.w0.22     RM  =v,om         eighth
vpmovsxwd    ve.66.38.w0.23     RM  =v,hm         half
vpmovsxwq    ve.66.38.w0.24     RM  =v,qm         quarter
vpmovsxdq    ve.66.38.w0.25     RM  =v,hm         half
vpmovzxbw    ve.66.38.w0.30     RM  =v,hm         half
vpmovzxbd    ve.66.38.w0.31     RM  =v,qm         quarter
vpmovzxbq    ve.66.38.w0.32     RM  =v,om         eighth
vpmovzxwd    ve.66.38.w0.33     RM  =v,hm         half
vpmovzxwq    ve.66.38.w0.34     RM  =v,qm         quarter
vpmovzxdq    ve.66.38.w0.35     RM  =v,hm         half
vpmovwb      e.f3.38.w0.30      MR  =hm,v         half
vpmovdb      e.f3.38.w0.31      MR  =qm,v         quarter
vpmovqb      e.f3.38.w0.32      MR  =om,v         eighth
vpmovdw      e.f3.38.w0.33      MR  =hm,v         half
vpmovqw      e.f3.38.w0.34      MR  =qm,v         quarter
vpmovqd      e.f3.38.w0.35      MR  =hm,v         half
vpmovswb     e.f3.38.w0.20      MR  =hm,v         half
vpmovsdb     e.f3.38.w0.21      MR  =qm,v         quarter
vpmovsqb     e.f3.38.w0.22      MR  =om,v         eighth
vpmovsdw     e.f3.38.w0.23      MR  =hm,v         half
vpmovsqw     e.f3.38.w0.24      MR  =qm,v         quarter
vpmovsqd     e.f3.38.w0.25      MR  =hm,v         half
vpmovuswb    e.f3.38.w0.10      MR  =hm,v         half
vpmovusdb    e.f3.38.w0.11      MR  =qm,v         quarter
vpmovusqb    e.f3.38.w0.12      MR  =om,v         eighth
vpmovusdw    e.f3.38.w0.13      MR  =hm,v         half
vpmovusqw    e.f3.38.w0.14      MR  =qm,v         quarter
vpmovusqd    e.f3.38.w0.15      MR  =hm,v         half
vpmovm2b     e.f3.38.w0.28      RM  =v,k
vpmovm2w     e.f3.38.w1.28      RM  =v,k
vpmovm2d     e.f3.38.w0.38      RM  =v,k
vpmovm2q     e.f3.38.w1.38      RM  =v,k
vpmovb2m     e.f3.38.w0.29      RM  =k,v
vpmovw2m     e.f3.38.w1.29      RM  =k,v
vpmovd2m     e.f3.38.w0.39      RM  =k,v
vpmovq2m     e.f3.38.w1.39      RM  =k,v
# integer arithmetic
vpaddb       ve.66.0f.w0.fc     RVM =v,v,vm       full
vpaddw       ve.66.0f.w0.fd     RVM =v,v,vm       full
vpaddd       ve.66.0f.w0.fe     RVM =v,v,vm       full4
vpaddq       ve.66.0f.wi1.d4    RVM =v,v,vm       full8
vpsubb       ve.66.0f.w0.f8     RVM =v,v,vm       full zero
vpsubw       ve.66.0f.w0.f9     RVM =v,v,vm       full zero
vpsubd       ve.66.0f.w0.fa     RVM =v,v,vm       full4 zero
vpsubq       ve.66.0f.wi1.fb    RVM =v,v,vm       full8 zero
vpaddsb      ve.66.0f.w0.ec     RVM =v,v,vm       full
vpaddsw      ve.66.0f.w0.ed     RVM =v,v,vm       full
vpaddusb     ve.66.0f.w0.dc     RVM =v,v,vm       full
vpaddusw     ve.66.0f.w0.dd     RVM =v,v,vm       full
vpsubsb      ve.66.0f.w0.e8     RVM =v,v,vm       full
vpsubsw      ve.66.0f.w0.e9     RVM =v,v,vm       full
vpsubusb     ve.66.0f.w0.d8     RVM =v,v,vm       full
vpsubusw     ve.66.0f.w0.d9     RVM =v,v,vm       full
vpmullw      ve.66.0f.w0.d5     RVM =v,v,vm       full
vpmulhw      ve.66.0f.w0.e5     RVM =v,v,vm       full
vpmulhuw     ve.66.0f.w0.e4     RVM =v,v,vm       full
vpmulhrsw    ve.66.38.w0.0b     RVM =v,v,vm       full
vpmuludq     ve.66.0f.wi1.f4    RVM =v,v,vm       full8
vpmuldq      ve.66.38.wi1.28    RVM =v,v,vm       full8
vpmulld      ve.66.38.w0.40     RVM =v,v,vm       full4
vpmullq      e.66.38.w1.40      RVM =v,v,vm       full8
vpmaddwd     ve.66.0f.w0.f5     RVM =v,v,vm       full
vpmaddubsw   ve.66.38.w0.04     RVM =v,v,vm       full
vpsadbw      ve.66.0f.w0.f6     RVM =v,v,vm       full
vpavgb       ve.66.0f.w0.e0     RVM =v,v,vm       full
vpavgw       ve.66.0f.w0.e3     RVM =v,v,vm       full
vpdpbusd     ve.66.38.w0.50     RVM +v,v,vm       full4 vnni
vpdpbusds    ve.66.38.w0.51     RVM +v,v,vm       full4 vnni
vpdpwssd     ve.66.38.w0.52     RVM +v,v,vm       full4 vnni
vpdpwssds    ve.66.38.w0.53     RVM +v,v,vm       full4 vnni
vpminsb      ve.66.38.w0.38     RVM =v,v,vm       full
vpminsw      ve.66.0f.w0.ea     RVM =v,v,vm       full
vpminsd      ve.66.38.w0.39     RVM =v,v,vm       full4
vpminsq      e.66.38.w1.39      RVM =v,v,vm       full8
vpminub      ve.66.0f.w0.da     RVM =v,v,vm       full
vpminuw      ve.66.38.w0.3a     RVM =v,v,vm       full
vpminud      ve.66.38.w0.3b     RVM =v,v,vm       full4
vpminuq      e.66.38.w1.3b      RVM =v,v,vm       full8
vpmaxsb      ve.66.38.w0.3c     RVM =v,v,vm       full
vpmaxsw      ve.66.0f.w0.ee     RVM =v,v,vm       full
vpmaxsd      ve.66.38.w0.3d     RVM =v,v,vm       full4
vpmaxsq      e.66.38.w1.3d      RVM =v,v,vm       full8
vpmaxub      ve.66.0f.w0.de     RVM =v,v,vm       full
vpmaxuw      ve.66.38.w0.3e     RVM =v,v,vm       full
vpmaxud      ve.66.38.w0.3f     RVM =v,v,vm       full4
vpmaxuq      e.66.38.w1.3f      RVM =v,v,vm       full8
vpabsb       ve.66.38.w0.1c     RM  =v,vm         full
vpabsw       ve.66.38.w0.1d     RM  =v,vm         full
vpabsd       ve.66.38.w0.1e     RM  =v,vm         full4
vpabsq       e.66.38.w1.1f      RM  =v,vm         full8
vpsignb      v.66.38.08         RVM =v,v,vm
vpsignw      v.66.38.09         RVM =v,v,vm
vpsignd      v.66.38.0a         RVM =v,v,vm
# bits
vpand        ve.66.0f.w0.db     RVM =v,v,vm       full4 name=vpandd
vpandn       ve.66.0f.w0.df     RVM =v,v,vm       full4 name=vpandnd zero
vpor         ve.66.0f.w0.eb     RVM =v,v,vm       full4 name=vpord
vpxor        ve.66.0f.w0.ef     RVM =v,v,vm       full4 name=vpxord zero
vpandd       e.66.0f.w0.db      RVM =v,v,vm       full4
vpandq       e.66.0f.w1.db      RVM =v,v,vm       full8
vpandnd      e.66.0f.w0.df      RVM =v,v,vm       full4 zero
vpandnq      e.66.0f.w1.df      RVM =v,v,vm       full8 zero
vpord        e.66.0f.w0.eb      RVM =v,v,vm       full4
vporq        e.66.0f.w1.eb      RVM =v,v,vm       full8
vpxord       e.66.0f.w0.ef      RVM =v,v,vm       full4 zero
vpxorq       e.66.0f.w1.ef      RVM =v,v,vm       full8 zero
vpternlogd   e.66.3a.w0.25      RVMI +v,v,vm,i1   full4
vpternlogq   e.66.3a.w1.25      RVMI +v,v,vm,i1   full8
vptest       v.66.38.17         RM  v,vm
vptestmb     e.66.38.w0.26      RVM =k,v,vm       full
vptestmw     e.66.38.w1.26      RVM =k,v,vm       full
vptestmd     e.66.38.w0.27      RVM =k,v,vm       full4
vptestmq     e.66.38.w1.27      RVM =k,v,vm       full8
vptestnmb    e.f3.38.w0.26      RVM =k,v,vm       full
vptestnmw    e.f3.38.w1.26      RVM =k,v,vm       full
vptestnmd    e.f3.38.w0.27      RVM =k,v,vm       full4
vptestnmq    e.f3.38.w1.27      RVM =k,v,vm       full8
# compares
vpcmpeqb     v.66.0f.74         RVM =v,v,vm       zero
vpcmpeqw     v.66.0f.75         RVM =v,v,vm       zero
vpcmpeqd     v.66.0f.76         RVM =v,v,vm       zero
vpcmpeqq     v.66.38.29         RVM =v,v,vm       zero
vpcmpgtb     v.66.0f.64         RVM =v,v,vm       zero
vpcmpgtw     v.66.0f.65         RVM =v,v,vm       zero
vpcmpgtd     v.66.0f.66         RVM =v,v,vm       zero
vpcmpgtq     v.66.38.37         RVM =v,v,vm       zero
vpcmpeqb     e.66.0f.w0.74      RVM =k,v,vm       full
vpcmpeqw     e.66.0f.w0.75      RVM =k,v,vm       full
vpcmpeqd     e.66.0f.w0.76      RVM =k,v,vm       full4
vpcmpeqq     e.66.38.w1.29      RVM =k,v,vm       full8
vpcmpgtb     e.66.0f.w0.64      RVM =k,v,vm       full
vpcmpgtw     e.66.0f.w0.65      RVM =k,v,vm       full
vpcmpgtd     e.66.0f.w0.66      RVM =k,v,vm       full4
vpcmpgtq     e.66.38.w1.37      RVM =k,v,vm       full8
vpcmpb       e.66.3a.w0.3f      RVMI =k,v,vm,i1   full
vpcmpub      e.66.3a.w0.3e      RVMI =k,v,vm,i1   full
vpcmpw       e.66.3a.w1.3f      RVMI =k,v,vm,i1   full
vpcmpuw      e.66.3a.w1.3e      RVMI =k,v,vm,i1   full
vpcmpd       e.66.3a.w0.1f      RVMI =k,v,vm,i1   full4
vpcmpud      e.66.3a.w0.1e      RVMI =k,v,vm,i1   full4
vpcmpq       e.66.3a.w1.1f      RVMI =k,v,vm,i1   full8
vpcmpuq      e.66.3a.w1.1e      RVMI =k,v,vm,i1   full8
# shifts
vpsllw       ve.66.0f.w0.f1     RVM =v,v,xm16     n16
vpslld       ve.66.0f.w0.f2     RVM =v,v,xm16     n16
vpsllq       ve.66.0f.wi1.f3    RVM =v,v,xm16     n16
vpsrlw       ve.66.0f.w0.d1     RVM =v,v,xm16     n16
vpsrld       ve.66.0f.w0.d2     RVM =v,v,xm16     n16
vpsrlq       ve.66.0f.wi1.d3    RVM =v,v,xm16     n16
vpsraw       ve.66.0f.w0.e1     RVM =v,v,xm16     n16
vpsrad       ve.66.0f.w0.e2     RVM =v,v,xm16     n16
vpsraq       e.66.0f.w1.e2      RVM =v,v,xm16     n16
vpsllw       ve.66.0f.w0.71/6   VMI =v,v,i1
vpslld       ve.66.0f.w0.72/6   VMI =v,v,i1
vpsllq       ve.66.0f.wi1.73/6  VMI =v,v,i1
vpsrlw       ve.66.0f.w0.71/2   VMI =v,v,i1
vpsrld       ve.66.0f.w0.72/2   VMI =v,v,i1
vpsrlq       ve.66.0f.wi1.73/2  VMI =v,v,i1
vpsraw       ve.66.0f.w0.71/4   VMI =v,v,i1
vpsrad       ve.66.0f.w0.72/4   VMI =v,v,i1
vpsraq       e.66.0f.w1.72/4    VMI =v,v,i1
vpslldq      ve.66.0f.w0.73/7   VMI =v,v,i1
vpsrldq      ve.66.0f.w0.73/3   VMI =v,v,i1
vprord       e.66.0f.w0.72/0    VMI =v,v,i1
vprorq       e.66.0f.w1.72/0    VMI =v,v,i1
vprold       e.66.0f.w0.72/1    VMI =v,v,i1
vprolq       e.66.0f.w1.72/1    VMI =v,v,i1
vpsllvw      e.66.38.w1.12      RVM =v,v,vm       full
vpsllvd      ve.66.38.w0.47     RVM =v,v,vm       full4
vpsllvq      ve.66.38.w1.47     RVM =v,v,vm       full8
vpsrlvw      e.66.38.w1.10      RVM =v,v,vm       full
vpsrlvd      ve.66.38.w0.45     RVM =v,v,vm       full4
vpsrlvq      ve.66.38.w1.45     RVM =v,v,vm       full8
vpsravw      e.66.38.w1.11      RVM =v,v,vm       full
vpsravd      ve.66.38.w0.46     RVM =v,v,vm       full4
vpsravq      e.66.38.w1.46      RVM =v,v,vm       full8
vprolvd      e.66.38.w0.15      RVM =v,v,vm       full4
vprolvq      e.66.38.w1.15      RVM =v,v,vm       full8
vprorvd      e.66.38.w0.14      RVM =v,v,vm       full4
vprorvq      e.66.38.w1.14      RVM =v,v,vm       full8
`;

export function vectorRows(): string {
  return `${expandFamilies()}\n${ROWS}`;
}
