package linux_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/container/containertest"
	"github.com/windlass-hpc/windlass/container/linux"
	"github.com/windlass-hpc/windlass/internal/rundir"
)

// daemonEnv makes the test binary the daemon that is going to be killed; its value is the run directory.
const daemonEnv = "WINDLASS_TEST_DAEMON"

const (
	rootEnv = "WINDLASS_TEST_ROOT"
	shimEnv = "WINDLASS_TEST_SHIM"
)

// daemon starts and removes containers until it is killed. It says what it is about to do, and what it has done.
func daemon(dir string) int {
	cfg := linux.Config{RunDir: rundir.Dir(dir), Shim: os.Getenv(shimEnv), LogSize: logSize}
	r, err := linux.New(cfg)
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	ctx := context.Background()
	for id := container.ID(1); ; id++ {
		fmt.Println("starting", id)
		if _, err := r.Start(ctx, id, containertest.Shell(containertest.Sleeper), os.Getenv(rootEnv)); err != nil {
			fmt.Println("error", err)
			return 1
		}
		fmt.Println("started", id)
		if id%2 == 0 {
			fmt.Println("removing", id)
			if err := r.Remove(ctx, id); err != nil {
				fmt.Println("error", err)
				return 1
			}
			fmt.Println("removed", id)
		}
	}
}

// A daemon killed at any moment leaves containers that a new one finds: what was started runs on, and everything can be removed.
func TestDaemonKilled(t *testing.T) {
	root := containertest.BusyboxRoot(t)
	for i := range 25 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			_, dir := newRuntime(t)
			told := runUntilKilled(t, dir, root, time.Duration(rand.Int64N(int64(40*time.Millisecond))))
			r, err := linux.New(config(dir))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), containertest.Patience)
			defer cancel()
			for id, verb := range told {
				st, err := r.Status(ctx, id)
				switch {
				case err != nil:
					t.Errorf("container %d, %s: %v", id, verb, err)
				case verb == "started" && st.State != container.Running:
					t.Errorf("container %d was started and is %+v", id, st)
				case verb == "removed" && st.State != container.Absent:
					t.Errorf("container %d was removed and is %+v", id, st)
				}
			}
			ids, err := r.List(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range ids {
				if told[id] == "" {
					t.Errorf("container %d came from nowhere", id)
				}
				if err := r.Remove(ctx, id); err != nil {
					t.Errorf("remove %d, %s: %v", id, told[id], err)
				}
			}
			if err := r.Remove(ctx, 1); err != nil { // tidies also when there was nothing to remove
				t.Error(err)
			}
		})
	}
}

// runUntilKilled gives the last word on each container.
func runUntilKilled(t *testing.T, dir rundir.Dir, root string, after time.Duration) map[container.ID]string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), daemonEnv+"="+string(dir), rootEnv+"="+root, shimEnv+"="+shim)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	told := map[container.ID]string{}
	sc := bufio.NewScanner(out)
	for sc.Scan() {
		var verb string
		var id container.ID
		if _, err := fmt.Sscan(sc.Text(), &verb, &id); err != nil || verb == "error" {
			t.Errorf("the daemon says %q", sc.Text())
			continue
		}
		if len(told) == 0 {
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
		told[id] = verb
	}
	_ = cmd.Wait()
	return told
}
