package clock

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/windlass-hpc/windlass/internal/redact"
)

// epoch is where NTP counts from. Its seconds begin anew in 2036.
var epoch = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)

// again is how long a server is waited for before it is asked once more.
const again = time.Second

// sntp asks one server (RFC 4330) until it answers or ctx ends, and gives how far the clock is behind.
func sntp(ctx context.Context, server string, now func() time.Time) (time.Duration, error) {
	if _, _, err := net.SplitHostPort(server); err != nil {
		server = net.JoinHostPort(server, "123")
	}
	failed := func(err error) (time.Duration, error) { return 0, fmt.Errorf("time server %s: %w", server, err) }
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", server)
	if err != nil {
		return failed(err)
	}
	defer conn.Close()
	for {
		off, err := exchange(ctx, conn, now)
		if err == nil {
			return off, nil
		}
		if ctx.Err() != nil {
			return failed(errors.New("it does not answer"))
		}
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			select {
			case <-time.After(again):
			case <-ctx.Done():
				return failed(err)
			}
		}
	}
}

func exchange(ctx context.Context, conn net.Conn, now func() time.Time) (time.Duration, error) {
	deadline := time.Now().Add(again)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return 0, err
	}
	ask := make([]byte, 48)
	ask[0] = 4<<3 | 3 // version 4, client
	// Not our time, but what nobody can guess: who answers must have seen it.
	_, _ = rand.Read(ask[40:])
	sent := now()
	if _, err := conn.Write(ask); err != nil {
		return 0, err
	}
	answer := make([]byte, 512)
	n, err := conn.Read(answer)
	if err != nil {
		return 0, err
	}
	came := now()
	if n < 48 || answer[0]&7 != 4 || string(answer[24:32]) != string(ask[40:48]) {
		return 0, errors.New("what it answers is not what was asked")
	}
	if stratum := answer[1]; stratum == 0 || stratum > 15 || answer[0]>>6 == 3 {
		return 0, errors.New("it does not know the time itself")
	}
	theirs, gave := stamp(answer[32:]), stamp(answer[40:])
	return (theirs.Sub(sent) + gave.Sub(came)) / 2, nil
}

// stamp reads seconds and their fraction. Those that look like before 2000 are of the era that begins in 2036.
func stamp(b []byte) time.Time {
	s, frac := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	t := epoch.Add(time.Duration(s) * time.Second).Add(time.Duration(uint64(frac) * 1e9 >> 32))
	if t.Year() < 2000 {
		t = t.Add(1 << 32 * time.Second)
	}
	return t
}

// web takes the date out of the answer of a web server, whatever else it answers.
func web(ctx context.Context, c Config, raw string) (Result, error) {
	r := Result{From: redact.URL(raw)}
	failed := func(err error) (Result, error) { return r, fmt.Errorf("the date of %s: %w", r.From, err) }
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, raw, nil)
	if err != nil || req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return failed(errors.New("it is no URL of the web"))
	}
	req.URL.User = nil // nobody who can be anybody gets a password
	client := http.Client{
		// Without the time no certificate can be judged. The date is worth no more than that of http, and nothing else is taken.
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}, //nolint:gosec // see above
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return failed(err)
	}
	_ = resp.Body.Close()
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return failed(errors.New("the server tells none"))
	}
	if r.Off = date.Sub(c.Now()); r.Off.Abs() < 2*time.Second { // it is told in whole seconds
		r.Off = 0
	}
	return r, nil
}
