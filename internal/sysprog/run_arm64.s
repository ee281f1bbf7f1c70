#include "textflag.h"

// Offsets into op and header: see sysprog.go.
#define OP_ARGS 8
#define OP_ALLOW1 56
#define OP_ALLOW2 64
#define OP_SKIP 72
#define OP_KIND 80
#define OP_INDIRECT 88
#define OP_RESULT 96
#define OP_SIZE 104
#define SYS_write 64
#define SYS_exit_group 94
#define SYS_clone3 435

// func run(args *CloneArgs, size uintptr, head *header) (pid, errno uintptr)
//
// The child may run beside its parent on the same stack pointer, so it touches no stack.
TEXT ·run(SB),NOSPLIT|NOFRAME,$0-40
	MOVD	args+0(FP), R0
	MOVD	size+8(FP), R1
	MOVD	head+16(FP), R19
	MOVD	$SYS_clone3, R8
	SVC
	CMN	$4095, R0
	BCS	failed
	CBZ	R0, child
	MOVD	R0, pid+24(FP)
	MOVD	ZR, errno+32(FP)
	RET
failed:
	NEG	R0, R0
	MOVD	$-1, R1
	MOVD	R1, pid+24(FP)
	MOVD	R0, errno+32(FP)
	RET

child:
	MOVD	24(R19), R20	// the op
	MOVD	ZR, R21	// its index
	MOVD	32(R19), R22	// how many
loop:
	CMP	R22, R21
	BHS	ended
	MOVD	0(R20), R8
	MOVD	(OP_ARGS+0)(R20), R0
	MOVD	(OP_ARGS+8)(R20), R1
	MOVD	(OP_ARGS+16)(R20), R2
	MOVD	(OP_ARGS+24)(R20), R3
	MOVD	(OP_ARGS+32)(R20), R4
	MOVD	(OP_ARGS+40)(R20), R5
	MOVD	OP_INDIRECT(R20), R23
	CBZ	R23, direct
	MOVD	(R0), R0
direct:
	SVC
	CMN	$4095, R0
	BCS	error
	MOVD	R0, OP_RESULT(R20)
next:
	ADD	$OP_SIZE, R20
	ADD	$1, R21
	B	loop

error:
	NEG	R0, R0
	MOVD	OP_ALLOW1(R20), R23
	CMP	R23, R0
	BEQ	allowed
	MOVD	OP_ALLOW2(R20), R23
	CMP	R23, R0
	BEQ	allowed
	MOVD	OP_KIND(R20), R23
	CMP	$1, R23
	BEQ	allowed
	MOVD	R21, 8(R19)
	B	report
allowed:
	MOVD	OP_SKIP(R20), R23
	ADD	R23, R21
	MOVD	$OP_SIZE, R25
	MUL	R25, R23
	ADD	R23, R20
	B	next

ended:
	MOVD	$-1, R23
	MOVD	R23, 8(R19)
report:
	MOVD	R0, 16(R19)
	ADD	$8, R19, R1
	MOVD	0(R19), R0
	MOVD	$16, R2
	MOVD	$SYS_write, R8
	SVC
exit:
	MOVD	$127, R0
	MOVD	$SYS_exit_group, R8
	SVC
	B	exit
