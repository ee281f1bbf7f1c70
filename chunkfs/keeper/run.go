package keeper

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is how the keeper is called.
const Usage = "windlass-shim keeper [--lock FILE] [--log FILE] -- PROGRAM ARGS…"

// Run is the keeper: args is what follows the word keeper. It returns when the program has ended with status 0, or when it cannot be
// started at all, or ended by itself at its first start without having served.
func Run(args []string) error {
	k, lock, err := parse(args)
	if err != nil {
		return err
	}
	_, _ = unix.Setsid() // whoever starts it may have done so already
	if lock != "" {
		if k.lock, err = takeLock(lock); err != nil {
			return err
		}
	}
	// Its death, or the server's, would end the file systems of every container: let it be killed after them.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-900"), 0)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	return k.keep(signals)
}

// keeper is the running keeper.
type keeper struct {
	program []string
	lock    *os.File
	log     *Log
	files   map[string]int // what is held, by name
	starts  int
}

func parse(args []string) (k *keeper, lock string, err error) {
	k = &keeper{log: &Log{f: os.Stderr}, files: map[string]int{}}
	for len(args) > 0 {
		word, value, joined := strings.Cut(args[0], "=")
		args = args[1:]
		if word == "--" {
			break
		}
		if !joined && len(args) > 0 {
			value, args = args[0], args[1:]
		}
		switch word {
		case "--lock":
			lock = value
		case "--log":
			if k.log, err = OpenLog(value); err != nil {
				return nil, "", err
			}
		default:
			return nil, "", fmt.Errorf("%s is no option; usage: %s", word, Usage)
		}
	}
	if len(args) == 0 {
		return nil, "", errors.New("no program; usage: " + Usage)
	}
	k.program = args
	return k, lock, nil
}

// A server that dies is started at once. One that dies again without having served for settled is started ever more slowly: up to
// maxPause when it did not come to serve at all, and up to servedPause when it did, since readers wait for it.
const (
	settled     = 100 * time.Millisecond
	firstPause  = 10 * time.Millisecond
	servedPause = 100 * time.Millisecond
	maxPause    = 5 * time.Second
)

// keep starts the program until it ends well.
func (k *keeper) keep(signals <-chan os.Signal) error {
	pause := time.Duration(0)
	for {
		began := time.Now()
		end, up, err := k.once(signals)
		if err != nil {
			k.log.printf("cannot start %s: %v", k.program[0], err)
		} else if end.Exited() && end.ExitCode() == 0 {
			return nil
		} else {
			k.log.printf("%s ended: %v, after %v, %d descriptors held", k.program[0], end, time.Since(began).Round(time.Millisecond), len(k.files))
		}
		if k.starts <= 1 && !up && len(k.files) == 0 && (err != nil || end.Exited()) {
			return k.hopeless(end, err)
		}
		longest := maxPause
		if up {
			longest = servedPause
			pause = min(pause, longest)
		}
		if up && time.Since(began) > settled {
			pause = 0
		}
		if pause > 0 {
			select {
			case s := <-signals:
				return fmt.Errorf("%v while %s did not start", s, k.program[0])
			case <-time.After(pause):
			}
		}
		pause = min(max(2*pause, firstPause), longest)
	}
}

// hopeless is the error of a program whose first start came to nothing: it has ended by itself before it served, and it will again. Nobody
// reads through it yet; who had it started is told why, and may try again.
func (k *keeper) hopeless(end *os.ProcessState, err error) error {
	if err != nil {
		return fmt.Errorf("start %s: %w", k.program[0], err)
	}
	return fmt.Errorf("%s ended before it served: %v", k.program[0], end)
}

// once runs the program to its end. up says whether it came to serve.
func (k *keeper) once(signals <-chan os.Signal) (end *os.ProcessState, up bool, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, false, err
	}
	theirs := os.NewFile(uintptr(pair[1]), "server's side")
	p, err := k.start(theirs)
	theirs.Close()
	if err != nil {
		unix.Close(pair[0])
		return nil, false, err
	}
	ended := make(chan struct{})
	forwarded := make(chan struct{})
	go func() {
		defer close(forwarded)
		for {
			select {
			case s := <-signals:
				_ = p.Signal(s)
			case <-ended:
				return
			}
		}
	}()
	up = k.serve(pair[0])
	end, err = p.Wait()
	close(ended)
	<-forwarded
	unix.Close(pair[0])
	return end, up, err
}

func (k *keeper) start(sock *os.File) (*os.Process, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	files := []*os.File{null, k.log.f, k.log.f, sock, k.lock}
	if k.lock == nil {
		files = files[:lockFD]
	}
	env := append(os.Environ(), startsEnv+"="+strconv.Itoa(k.starts+1))
	p, err := os.StartProcess(k.program[0], k.called(os.Args[0]), &os.ProcAttr{Files: files, Env: env})
	if err == nil {
		k.starts++
	}
	return p, err
}

// Mark stands before the name of a process that the root of the node may depend on, its argv[0]: systemd does not end it when the node is shut
// down (systemd.io/ROOT_STORAGE_DAEMONS). Who starts a keeper so marks its server, too.
const Mark = "@"

// called is what the program is started as; self is the keeper's own name.
func (k *keeper) called(self string) []string {
	if !strings.HasPrefix(self, Mark) {
		return k.program
	}
	return append([]string{Mark + k.program[0]}, k.program[1:]...)
}

// serve gives the server what is held and answers it until it has gone.
func (k *keeper) serve(sock int) (up bool) {
	for name, fd := range k.files {
		if send(sock, sayStored, name, fd) != nil {
			return false
		}
	}
	if send(sock, sayBegin, "", -1) != nil {
		return false
	}
	for {
		word, name, fd, err := receive(sock)
		if errors.Is(err, errGone) {
			return up
		}
		if err == nil {
			up = up || word == sayUp
			err = k.answer(word, name, fd)
		}
		answer, why := sayOK, ""
		if err != nil {
			answer, why = sayNo, err.Error()
		}
		if send(sock, answer, why[:min(len(why), maxPacket/2)], -1) != nil {
			return up
		}
	}
}

// answer does what the server asks; fd becomes the keeper's.
func (k *keeper) answer(word, name string, fd int) error {
	old, held := k.files[name]
	switch {
	case word == sayStore && fd < 0:
		return errors.New("no descriptor came with it")
	case word == sayStore && checkName(name) == nil && (held || len(k.files) < MaxStored):
		k.files[name] = fd
	case word == sayStore:
		closeFD(fd)
		return fmt.Errorf("%d descriptors are held, of at most %d", len(k.files), MaxStored)
	case word == sayDrop && fd < 0:
		delete(k.files, name)
	case word == sayUp && fd < 0:
		held = false
	default:
		closeFD(fd)
		return fmt.Errorf("%q is not understood", word)
	}
	if held {
		unix.Close(old)
	}
	return nil
}
