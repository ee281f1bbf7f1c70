// Package sysprog starts a process whose life before execve is a table of system calls, worked out beforehand.
//
// A child that enters namespaces must set itself up on the far side of clone. Go code cannot run there, and executing a second Go
// binary to do it costs more than all the mounts together. So the parent prepares what it can, writes the rest down as a Program, and the child,
// a loop of some thirty instructions in assembly, works it off: it uses no stack, allocates nothing and knows nothing of the Go
// runtime. When a call fails it writes which one, and the errno, to a pipe that closes by itself on success.
//
// The package owns the loop, never the meaning of the calls.
package sysprog

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kinds of an op, as the assembly knows them.
const (
	plain    = 0
	fallible = 1 // any error is ignored
)

// op is one call as the assembly reads it. The offsets there depend on the order here.
type op struct {
	trap     uintptr
	args     [6]uintptr
	allow    [2]uintptr // errnos that are no failure
	skip     uintptr    // how many further ops an allowed failure skips
	kind     uintptr
	indirect uintptr // 1: args[0] is the address of the value
	result   uintptr
}

//lint:file-ignore U1000 the assembly reads and writes the fields of header

// header is what the child holds in one register.
type header struct {
	report uintptr // descriptor of the pipe
	index  uintptr // message: which op; the largest number when all are done and none has executed
	value  uintptr // message: the errno
	ops    *op
	count  uintptr
}

// CloneArgs is struct clone_args of clone3(2), version 2.
type CloneArgs struct {
	Flags      uint64
	Pidfd      uint64
	ChildTID   uint64
	ParentTID  uint64
	ExitSignal uint64
	Stack      uint64
	StackSize  uint64
	TLS        uint64
	SetTID     uint64
	SetTIDSize uint64
	Cgroup     uint64
}

// Step is one call of a Program.
type Step struct {
	what string
	op   op
	on   *Step
	at   int
}

// Program is a table of calls under construction. It is used once.
type Program struct {
	steps []*Step
	keep  []any
	ops   []op
}

// Call appends a system call; what says it for an error message, as in "mount proc on /proc".
func (p *Program) Call(what string, trap uintptr, args ...uintptr) *Step {
	s := &Step{what: what, at: len(p.steps)}
	s.op.trap = trap
	copy(s.op.args[:], args)
	p.steps = append(p.steps, s)
	return s
}

// Allow names up to two errnos that do not end the program.
func (s *Step) Allow(errnos ...unix.Errno) *Step {
	for i, e := range errnos {
		s.op.allow[i] = uintptr(e)
	}
	return s
}

// Skip makes an allowed failure skip the next n calls too.
func (s *Step) Skip(n int) *Step {
	s.op.skip = uintptr(n)
	return s
}

// Try lets the call fail as it likes.
func (s *Step) Try() *Step {
	s.op.kind = fallible
	return s
}

// On makes the answer of an earlier call the first argument.
func (s *Step) On(earlier *Step) *Step {
	s.on = earlier
	return s
}

// Str gives the address of a C string that lives as long as the program. A NUL byte in s ends it there; callers check before.
func (p *Program) Str(s string) uintptr { return p.Bytes(append([]byte(s), 0)) }

// Bytes gives the address of b, which the program keeps.
func (p *Program) Bytes(b []byte) uintptr { return p.Pointer(unsafe.Pointer(unsafe.SliceData(b))) }

// Pointer gives the address of something on the heap, which the program keeps.
func (p *Program) Pointer(v unsafe.Pointer) uintptr {
	p.keep = append(p.keep, v)
	return uintptr(v)
}

// Strings gives the address of a NULL-ended array of C strings.
func (p *Program) Strings(list []string) uintptr {
	array := make([]uintptr, 0, len(list)+1)
	for _, s := range list {
		array = append(array, p.Str(s))
	}
	array = append(array, 0)
	return p.Pointer(unsafe.Pointer(unsafe.SliceData(array)))
}

// seal lays the ops out in one piece and resolves the references between them.
func (p *Program) seal() {
	p.ops = make([]op, len(p.steps))
	for i, s := range p.steps {
		p.ops[i] = s.op
		if s.on != nil {
			p.ops[i].indirect = 1
			p.ops[i].args[0] = uintptr(unsafe.Pointer(&p.ops[s.on.at].result))
		}
	}
}

// Error says which call of a program failed.
type Error struct {
	What string
	Err  unix.Errno
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.What, e.Err) }

// Unwrap gives the errno.
func (e *Error) Unwrap() error { return e.Err }

// Child is a process that works off a program.
type Child struct {
	PID   int // of the process that clone made
	Pidfd int // of the same; the caller closes it
	prog  *Program
	pipe  int
}

// Start clones a child that works off the program, whose last call is execve. Flags are those of clone3; CLONE_PIDFD is added, and
// with cgroup ≥ 0 CLONE_INTO_CGROUP.
//
// With shared set the child borrows the caller's memory until it has executed: nothing is copied, and as the loop uses no stack both
// run side by side. Without, it has a copy, which is slower and which a time namespace needs. Start returns at once; Result waits.
func (p *Program) Start(flags uint64, cgroup int, shared bool) (*Child, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	p.seal()
	pidfd := new(int32)
	*pidfd = -1
	args := &CloneArgs{Flags: flags | unix.CLONE_PIDFD, Pidfd: uint64(uintptr(unsafe.Pointer(pidfd))), ExitSignal: uint64(unix.SIGCHLD)}
	if cgroup >= 0 {
		args.Flags |= unix.CLONE_INTO_CGROUP
		args.Cgroup = uint64(cgroup)
	}
	if shared {
		args.Flags |= unix.CLONE_VM
	}
	head := &header{report: uintptr(pipe[1]), ops: unsafe.SliceData(p.ops), count: uintptr(len(p.ops))}
	p.keep = append(p.keep, head, args, pidfd)
	pid, errno := clone(args, head)
	unix.Close(pipe[1])
	runtime.KeepAlive(p)
	if errno != 0 {
		unix.Close(pipe[0])
		return nil, fmt.Errorf("clone: %w", errno)
	}
	return &Child{PID: pid, Pidfd: int(*pidfd), prog: p, pipe: pipe[0]}, nil
}

// clone runs the assembly with all signals blocked: a handler of the Go runtime must not run in the child, on the parent's stack.
func clone(args *CloneArgs, head *header) (int, unix.Errno) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all, old := uint64(1<<64-1), uint64(0)
	sigmask(&all, &old)
	pid, errno := run(args, unsafe.Sizeof(*args), head)
	sigmask(&old, nil)
	return int(pid), unix.Errno(errno)
}

func sigmask(set, old *uint64) {
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
}

// run clones; in the child it works off the program and does not return.
//
//go:noescape
func run(args *CloneArgs, size uintptr, head *header) (pid, errno uintptr)

// Result waits until the child has executed, for as long as that takes: a file system may hang. An *Error says which call failed. It is
// called once.
func (c *Child) Result() error {
	defer unix.Close(c.pipe)
	for {
		var msg [2]uintptr
		b := unsafe.Slice((*byte)(unsafe.Pointer(&msg)), unsafe.Sizeof(msg))
		n, err := unix.Read(c.pipe, b)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("read the report of a child: %w", err)
		case n == 0:
			runtime.KeepAlive(c.prog)
			return nil
		case msg[0] < uintptr(len(c.prog.steps)):
			return &Error{c.prog.steps[msg[0]].what, unix.Errno(msg[1])}
		default:
			return fmt.Errorf("a child ended before it executed anything")
		}
	}
}
