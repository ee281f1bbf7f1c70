package keeper

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Client is the server's side. Its methods may be called from several goroutines.
type Client struct {
	// Start says which start of the server by this keeper this is, from 1; 0 without a keeper.
	Start int

	mu     sync.Mutex
	sock   int // -1 without a keeper
	stored map[string]*os.File
}

// Connect takes up what the keeper left to this process: it is called once, early, and receives all stored descriptors. A process that no
// keeper started gets a client that stores nothing.
func Connect() (*Client, error) {
	start, err := strconv.Atoi(os.Getenv(startsEnv))
	if err != nil {
		return &Client{sock: -1}, nil
	}
	if err := os.Unsetenv(startsEnv); err != nil {
		return nil, err
	}
	unix.CloseOnExec(socketFD)
	unix.CloseOnExec(lockFD)
	c := &Client{Start: start, sock: socketFD, stored: map[string]*os.File{}}
	for {
		word, name, fd, err := receive(c.sock)
		if err != nil {
			return nil, fmt.Errorf("receive the descriptors that the keeper holds: %w", err)
		}
		if word == sayBegin {
			return c, nil
		}
		if word != sayStored || fd < 0 {
			closeFD(fd)
			return nil, fmt.Errorf("the keeper said %q where it should give a descriptor", word)
		}
		c.stored[name] = os.NewFile(uintptr(fd), name)
	}
}

// Stored gives the descriptors that were held at the start and have not been dropped since. They belong to the client: who serves one
// duplicates it.
func (c *Client) Stored() map[string]*os.File {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[string]*os.File, len(c.stored))
	for name, f := range c.stored {
		all[name] = f
	}
	return all
}

// Store has the keeper hold a duplicate of fd, in place of one that has the name already. When it returns, the descriptor outlives this
// process. Without a keeper, or after that has died, it does nothing: see Kept.
func (c *Client) Store(name string, fd int) error { return c.ask(sayStore, name, fd) }

// Drop has the keeper close what it holds under the name, if anything.
func (c *Client) Drop(name string) error {
	err := c.ask(sayDrop, name, -1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.stored[name]; f != nil {
		delete(c.stored, name)
		f.Close()
	}
	return err
}

// Up tells the keeper that this server serves: dying from now on is not failing to start.
func (c *Client) Up() error { return c.ask(sayUp, "", -1) }

func (c *Client) ask(word, name string, fd int) error {
	if word != sayUp {
		if err := checkName(name); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sock < 0 {
		return nil
	}
	err := send(c.sock, word, name, fd)
	var answer, why string
	if err == nil {
		answer, why, fd, err = receive(c.sock)
		closeFD(fd)
	}
	switch {
	case errors.Is(err, errGone) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET):
		unix.Close(c.sock)
		c.sock = -1
		return nil
	case err != nil:
		return fmt.Errorf("speak with the keeper: %w", err)
	case answer != sayOK:
		return fmt.Errorf("the keeper refused to %s %s: %s", word, name, why)
	}
	return nil
}

// Kept says whether a keeper holds what was stored and would start this server again.
func (c *Client) Kept() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sock < 0 {
		return false
	}
	fds := []unix.PollFd{{Fd: int32(c.sock), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 0
}
