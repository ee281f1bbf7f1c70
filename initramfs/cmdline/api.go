package cmdline

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/windlass-hpc/windlass/internal/redact"
)

// setAPI takes http://HOST:PORT or https://HOST:PORT, or both with a comma between. The unix socket is there always.
func (o *Options) setAPI(v string) error {
	var list []string
	for _, one := range split(v, ",") {
		if one == "unix" {
			continue
		}
		u, err := url.Parse(one)
		if err != nil || u.User != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
			return fmt.Errorf("%q is none of unix, http://HOST:PORT, https://HOST:PORT", redact.URL(one))
		}
		if u.Port() != "" {
			// The daemon would refuse to start.
			if _, err := parseNumber(u.Port(), 1, 65535); err != nil {
				return fmt.Errorf("the port in %s: %w", one, err)
			}
		}
		list = append(list, one)
	}
	o.API = list
	return nil
}

// Serve gives the arguments of `windlass serve` that the command line asks for. What would let everybody in without having been allowed is
// left out, and told.
func (o *Options) Serve() (args, warnings []string) {
	if o.Log != "" {
		args = append(args, "--log-level="+o.Log)
	}
	if len(o.API) == 0 {
		return args, nil
	}
	args = append(args, "--scheme=unix")
	for _, one := range o.API {
		u, err := url.Parse(one)
		if err != nil {
			continue // setAPI has read it before
		}
		port := u.Port()
		if u.Scheme == "https" {
			args = append(args, "--scheme=https", "--tls-host="+u.Hostname())
			if port != "" {
				args = append(args, "--tls-port="+port)
			}
			continue
		}
		if !loopback(u.Hostname()) && !o.Insecure {
			warnings = append(warnings, fmt.Sprintf(
				"windlass.api=%s would let every machine that reaches this node become root here, and is left out: use https, or add windlass.api.insecure", one))
			continue
		}
		args = append(args, "--scheme=http", "--host="+u.Hostname())
		if port != "" {
			args = append(args, "--port="+port)
		}
	}
	if o.Insecure {
		args = append(args, "--insecure-http")
	}
	return args, warnings
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func parseAddr(v string) (netip.Addr, error) {
	a, err := netip.ParseAddr(strings.Trim(v, "[]"))
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q is no address", v)
	}
	return a.Unmap(), nil
}

func parseNumber(v string, low, high int) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("%q is no number from %d to %d", v, low, high)
	}
	return n, nil
}
