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
#define SYS_write 1
#define SYS_exit_group 231
#define SYS_clone3 435

// func run(args *CloneArgs, size uintptr, head *header) (pid, errno uintptr)
//
// The child may run beside its parent on the same stack pointer, so it touches no stack.
TEXT ·run(SB),NOSPLIT|NOFRAME,$0-40
	MOVQ	args+0(FP), DI
	MOVQ	size+8(FP), SI
	MOVQ	head+16(FP), BX
	MOVQ	$SYS_clone3, AX
	SYSCALL
	CMPQ	AX, $0xfffffffffffff001
	JCC	failed
	TESTQ	AX, AX
	JZ	child
	MOVQ	AX, pid+24(FP)
	MOVQ	$0, errno+32(FP)
	RET
failed:
	NEGQ	AX
	MOVQ	$-1, pid+24(FP)
	MOVQ	AX, errno+32(FP)
	RET

child:
	MOVQ	24(BX), R12	// the op
	XORQ	R13, R13	// its index
loop:
	CMPQ	R13, 32(BX)
	JCC	ended
	MOVQ	0(R12), AX
	MOVQ	(OP_ARGS+0)(R12), DI
	MOVQ	(OP_ARGS+8)(R12), SI
	MOVQ	(OP_ARGS+16)(R12), DX
	MOVQ	(OP_ARGS+24)(R12), R10
	MOVQ	(OP_ARGS+32)(R12), R8
	MOVQ	(OP_ARGS+40)(R12), R9
	CMPQ	OP_INDIRECT(R12), $0
	JEQ	direct
	MOVQ	(DI), DI
direct:
	SYSCALL
	CMPQ	AX, $0xfffffffffffff001
	JCC	error
	MOVQ	AX, OP_RESULT(R12)
next:
	ADDQ	$OP_SIZE, R12
	INCQ	R13
	JMP	loop

error:
	NEGQ	AX
	CMPQ	AX, OP_ALLOW1(R12)
	JEQ	allowed
	CMPQ	AX, OP_ALLOW2(R12)
	JEQ	allowed
	CMPQ	OP_KIND(R12), $1
	JEQ	allowed
	MOVQ	R13, 8(BX)
	JMP	report
allowed:
	MOVQ	OP_SKIP(R12), CX
	ADDQ	CX, R13
	IMULQ	$OP_SIZE, CX
	ADDQ	CX, R12
	JMP	next

ended:
	MOVQ	$-1, 8(BX)
report:
	MOVQ	AX, 16(BX)
	LEAQ	8(BX), SI
	MOVQ	0(BX), DI
	MOVQ	$16, DX
	MOVQ	$SYS_write, AX
	SYSCALL
exit:
	MOVQ	$127, DI
	MOVQ	$SYS_exit_group, AX
	SYSCALL
	JMP	exit
