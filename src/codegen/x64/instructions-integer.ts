/** The table's rows of general-purpose, bit manipulation, mask and tile instructions; `instructions.ts` explains the columns. */
export const INTEGER_ROWS = `
# moves
mov         l.8b          RM  =r,rm         byte merge
mov         l.89          MR  =rm,r         byte merge
mov         l.b8+r        OI  =r,iz         merge
mov         l.c7/0        MI  =rm,i4        byte merge
movzx.b     l.0f.b6       RM  =r4,r1m1
movzx.w     l.0f.b7       RM  =r4,r2m2
movsx.b     l.0f.w1.be    RM  =r8,r1m1
movsx.w     l.0f.w1.bf    RM  =r8,r2m2
movsx.d     l.w1.63       RM  =r8,r4m4      as=movsxd
lea         l.8d          RM  =r,m
xchg        l.87          MR  +rm,+r        byte
bswap       l.0f.c8+r     O   +r
cmovCC      l.0f.4*       RM  +r,rm
setCC       l.0f.9*       M   =r1m1
movnti      l.0f.c3       MR  =m,r
push        l.50+r        O   r8
pop         l.58+r        O   =r8
# arithmetic
add         l.83/0        MI  +rm,i1        byte
add         l.81/0        MI  +rm,i4        byte
add         l.03          RM  +r,rm         byte
add         l.01          MR  +rm,r         byte
or          l.83/1        MI  +rm,i1        byte
or          l.81/1        MI  +rm,i4        byte
or          l.0b          RM  +r,rm         byte
or          l.09          MR  +rm,r         byte
adc         l.83/2        MI  +rm,i1        byte
adc         l.81/2        MI  +rm,i4        byte
adc         l.13          RM  +r,rm         byte
adc         l.11          MR  +rm,r         byte
sbb         l.83/3        MI  +rm,i1        byte
sbb         l.81/3        MI  +rm,i4        byte
sbb         l.1b          RM  +r,rm         byte
sbb         l.19          MR  +rm,r         byte
and         l.83/4        MI  +rm,i1        byte
and         l.81/4        MI  +rm,i4        byte
and         l.23          RM  +r,rm         byte
and         l.21          MR  +rm,r         byte
sub         l.83/5        MI  +rm,i1        byte
sub         l.81/5        MI  +rm,i4        byte
sub         l.2b          RM  +r,rm         byte zero
sub         l.29          MR  +rm,r         byte
xor         l.83/6        MI  +rm,i1        byte
xor         l.81/6        MI  +rm,i4        byte
xor         l.33          RM  +r,rm         byte zero
xor         l.31          MR  +rm,r         byte
cmp         l.83/7        MI  rm,i1         byte
cmp         l.81/7        MI  rm,i4         byte
cmp         l.3b          RM  r,rm          byte
cmp         l.39          MR  rm,r          byte
test        l.85          MR  rm,r          byte
test        l.f7/0        MI  rm,i4         byte
inc         l.ff/0        M   +rm           byte
dec         l.ff/1        M   +rm           byte
not         l.f7/2        M   +rm           byte
neg         l.f7/3        M   +rm           byte
imul        l.0f.af       RM  +r,rm
imul        l.6b          RMI =r,rm,i1
imul        l.69          RMI =r,rm,i4
mul         l.f7/4        M   rm            <rax >rax,rdx
imul.wide   l.w1.f7/5     M   r8m8          as=imul <rax >rax,rdx
div         l.f7/6        M   rm            <rax,rdx >rax,rdx
idiv        l.f7/7        M   rm            <rax,rdx >rax,rdx
cqo         l.w1.99       -   <rax >rdx
cdq         l.99          -   <rax >rdx
# shifts and bits
rol         l.d1/0        MI  +rm,one       byte
rol         l.c1/0        MI  +rm,i1        byte
rol         l.d3/0        MC  +rm,cl        byte
ror         l.d1/1        MI  +rm,one       byte
ror         l.c1/1        MI  +rm,i1        byte
ror         l.d3/1        MC  +rm,cl        byte
shl         l.d1/4        MI  +rm,one       byte
shl         l.c1/4        MI  +rm,i1        byte
shl         l.d3/4        MC  +rm,cl        byte
shr         l.d1/5        MI  +rm,one       byte
shr         l.c1/5        MI  +rm,i1        byte
shr         l.d3/5        MC  +rm,cl        byte
sar         l.d1/7        MI  +rm,one       byte
sar         l.c1/7        MI  +rm,i1        byte
sar         l.d3/7        MC  +rm,cl        byte
bt          l.0f.a3       MR  rm,r
bt          l.0f.ba/4     MI  rm,i1
bsf         l.0f.bc       RM  +r,rm
bsr         l.0f.bd       RM  +r,rm
popcnt      l.f3.0f.b8    RM  =r,rm
tzcnt       l.f3.0f.bc    RM  =r,rm
lzcnt       l.f3.0f.bd    RM  =r,rm
andn        v.np.38.ws.f2   RVM =r,r,rm
bextr       v.np.38.ws.f7   RMV =r,rm,r
blsi        v.np.38.ws.f3/3 VM  =r,rm
blsmsk      v.np.38.ws.f3/2 VM  =r,rm
blsr        v.np.38.ws.f3/1 VM  =r,rm
bzhi        v.np.38.ws.f5   RMV =r,rm,r
mulx        v.f2.38.ws.f6   RVM =r,=r,rm    <rdx
pdep        v.f2.38.ws.f5   RVM =r,r,rm
pext        v.f3.38.ws.f5   RVM =r,r,rm
rorx        v.f2.3a.ws.f0   RMI =r,rm,i1
sarx        v.f3.38.ws.f7   RMV =r,rm,r
shlx        v.66.38.ws.f7   RMV =r,rm,r
shrx        v.f2.38.ws.f7   RMV =r,rm,r
# atomics, hints, system
xadd        l.0f.c1       MR  +rm,+r
cmpxchg     l.0f.b1       MR  +rm,r         <rax >rax
pause       l.f3.90       -
nop         l.90          -
int3        l.cc          -
ud2         l.0f.0b       -
mfence      l.0f.aef0     -
lfence      l.0f.aee8     -
sfence      l.0f.aef8     -
prefetchnta l.0f.18/0     M   m
prefetcht0  l.0f.18/1     M   m
prefetcht1  l.0f.18/2     M   m
prefetcht2  l.0f.18/3     M   m
prefetchw   l.0f.0d/1     M   m
cpuid       l.0f.a2       -   <rax,rcx >rax,rbx,rcx,rdx
rdtsc       l.0f.31       -   >rax,rdx
rdtscp      l.0f.01f9     -   >rax,rdx,rcx
xgetbv      l.0f.01d0     -   <rcx >rax,rdx
syscall     l.0f.05       -   <rax >rax,rcx,r11
call        l.ff/2        M   r8m8
jmp         l.ff/4        M   r8m8
ret         l.c3          -
# masks
kmovb       v.66.0f.w0.90   RM  =k,km1
kmovb       v.66.0f.w0.91   MR  =m1,k
kmovb       v.66.0f.w0.92   RM  =k,r4
kmovb       v.66.0f.w0.93   RM  =r4,k
kmovw       v.np.0f.w0.90   RM  =k,km2
kmovw       v.np.0f.w0.91   MR  =m2,k
kmovw       v.np.0f.w0.92   RM  =k,r4
kmovw       v.np.0f.w0.93   RM  =r4,k
kmovd       v.66.0f.w1.90   RM  =k,km4
kmovd       v.66.0f.w1.91   MR  =m4,k
kmovd       v.f2.0f.w0.92   RM  =k,r4
kmovd       v.f2.0f.w0.93   RM  =r4,k
kmovq       v.np.0f.w1.90   RM  =k,km8
kmovq       v.np.0f.w1.91   MR  =m8,k
kmovq       v.f2.0f.w1.92   RM  =k,r8
kmovq       v.f2.0f.w1.93   RM  =r8,k
kandb       v.66.0f.w0.l1.41   RVM =k,k,k
kandw       v.np.0f.w0.l1.41   RVM =k,k,k
kandd       v.66.0f.w1.l1.41   RVM =k,k,k
kandq       v.np.0f.w1.l1.41   RVM =k,k,k
kandnb      v.66.0f.w0.l1.42   RVM =k,k,k  zero
kandnw      v.np.0f.w0.l1.42   RVM =k,k,k  zero
kandnd      v.66.0f.w1.l1.42   RVM =k,k,k  zero
kandnq      v.np.0f.w1.l1.42   RVM =k,k,k  zero
korb        v.66.0f.w0.l1.45   RVM =k,k,k
korw        v.np.0f.w0.l1.45   RVM =k,k,k
kord        v.66.0f.w1.l1.45   RVM =k,k,k
korq        v.np.0f.w1.l1.45   RVM =k,k,k
kxnorb      v.66.0f.w0.l1.46   RVM =k,k,k  zero
kxnorw      v.np.0f.w0.l1.46   RVM =k,k,k  zero
kxnord      v.66.0f.w1.l1.46   RVM =k,k,k  zero
kxnorq      v.np.0f.w1.l1.46   RVM =k,k,k  zero
kxorb       v.66.0f.w0.l1.47   RVM =k,k,k  zero
kxorw       v.np.0f.w0.l1.47   RVM =k,k,k  zero
kxord       v.66.0f.w1.l1.47   RVM =k,k,k  zero
kxorq       v.np.0f.w1.l1.47   RVM =k,k,k  zero
kaddb       v.66.0f.w0.l1.4a   RVM =k,k,k
kaddw       v.np.0f.w0.l1.4a   RVM =k,k,k
kaddd       v.66.0f.w1.l1.4a   RVM =k,k,k
kaddq       v.np.0f.w1.l1.4a   RVM =k,k,k
kunpckbw    v.66.0f.w0.l1.4b   RVM =k,k,k
kunpckwd    v.np.0f.w0.l1.4b   RVM =k,k,k
kunpckdq    v.np.0f.w1.l1.4b   RVM =k,k,k
knotb       v.66.0f.w0.44   RM  =k,k
knotw       v.np.0f.w0.44   RM  =k,k
knotd       v.66.0f.w1.44   RM  =k,k
knotq       v.np.0f.w1.44   RM  =k,k
kortestb    v.66.0f.w0.98   RM  k,k
kortestw    v.np.0f.w0.98   RM  k,k
kortestd    v.66.0f.w1.98   RM  k,k
kortestq    v.np.0f.w1.98   RM  k,k
ktestb      v.66.0f.w0.99   RM  k,k
ktestw      v.np.0f.w0.99   RM  k,k
ktestd      v.66.0f.w1.99   RM  k,k
ktestq      v.np.0f.w1.99   RM  k,k
kshiftlb    v.66.3a.w0.32   RMI =k,k,i1
kshiftlw    v.66.3a.w1.32   RMI =k,k,i1
kshiftld    v.66.3a.w0.33   RMI =k,k,i1
kshiftlq    v.66.3a.w1.33   RMI =k,k,i1
kshiftrb    v.66.3a.w0.30   RMI =k,k,i1
kshiftrw    v.66.3a.w1.30   RMI =k,k,i1
kshiftrd    v.66.3a.w0.31   RMI =k,k,i1
kshiftrq    v.66.3a.w1.31   RMI =k,k,i1
# tiles
ldtilecfg   v.np.38.w0.49/0 M   m
sttilecfg   v.66.38.w0.49/0 M   =m
tileloadd   v.f2.38.w0.4b   RM  =t,m        sib
tileloaddt1 v.66.38.w0.4b   RM  =t,m        sib
tilestored  v.f3.38.w0.4b   MR  =m,t        sib
tilezero    v.f2.38.w0.49   R   =t
tdpbf16ps   v.f3.38.w0.5c   RMV +t,t,t
tdpfp16ps   v.f2.38.w0.5c   RMV +t,t,t
tdpbssd     v.f2.38.w0.5e   RMV +t,t,t
tdpbsud     v.f3.38.w0.5e   RMV +t,t,t
tdpbusd     v.66.38.w0.5e   RMV +t,t,t
tdpbuud     v.np.38.w0.5e   RMV +t,t,t
tilerelease v.np.38.w0.49c0 -
vzeroupper  v.np.0f.w0.77   -
vzeroall    v.np.0f.w0.l1.77 -
`;
