package config

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/internal/nearest"
)

// maxSocketPath is what fits into sun_path of sockaddr_un with its closing zero.
const maxSocketPath = 107

// validate judges what each value and the values together mean. It reads nothing but whether the named files can be read.
func (c *Config) validate() (p Problems) {
	p = append(p, c.validateSchemes()...)
	if c.Listens(SchemeUnix) {
		p = append(p, absolute("socket_path", c.SocketPath)...)
		if len(c.SocketPath) > maxSocketPath {
			p = append(p, fmt.Sprintf("socket_path: %d bytes is too long for a unix socket; %d is the most", len(c.SocketPath), maxSocketPath))
		}
	}
	if c.Listens(SchemeHTTP) {
		p = append(p, port("port", c.Port)...)
		p = append(p, c.exposed("host", c.Host, "http has no client certificates")...)
	}
	if c.Listens(SchemeHTTPS) {
		p = append(p, c.validateTLS()...)
	}
	return append(p, c.validateDaemon()...)
}

func (c *Config) validateSchemes() (p Problems) {
	if len(c.Schemes) == 0 {
		return Problems{"scheme: there must be at least one of unix, http, https"}
	}
	seen := map[string]bool{}
	for _, s := range c.Schemes {
		if seen[s] {
			p = append(p, "scheme: "+s+" is there twice")
		}
		seen[s] = true
		p = append(p, oneOf("scheme", s, SchemeUnix, SchemeHTTP, SchemeHTTPS)...)
	}
	return p
}

func (c *Config) validateTLS() Problems {
	p := port("tls_port", c.TLSPort)
	p = append(p, needed("tls_certificate", c.TLSCertificate, "for scheme https")...)
	p = append(p, needed("tls_key", c.TLSKey, "for scheme https")...)
	if c.TLSCA != "" {
		return append(p, readable("tls_ca", c.TLSCA)...)
	}
	return append(p, c.exposed("tls_host", c.HTTPSHost(), "without tls_ca nobody is asked for a client certificate")...)
}

// HTTPSHost is the address of the https listener.
func (c *Config) HTTPSHost() string {
	if c.TLSHost != "" {
		return c.TLSHost
	}
	return c.Host
}

// exposed refuses an address that other machines reach: who can call is root on this node.
func (c *Config) exposed(key, host, why string) Problems {
	ip := net.ParseIP(host)
	if c.InsecureHTTP || host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	if host == "" {
		host = "every address"
	}
	return Problems{fmt.Sprintf("%s: %s lets other machines in, and %s: use 127.0.0.1, or https with tls_ca, or set insecure_http", key, host, why)}
}

func (c *Config) validateDaemon() (p Problems) {
	p = append(p, absolute("run_dir", c.RunDir)...)
	if c.Shim != "" {
		p = append(p, absolute("shim", c.Shim)...)
	}
	parent := strings.Trim(c.CgroupParent, "/")
	if parent != "" && !filepath.IsLocal(parent) {
		p = append(p, fmt.Sprintf("cgroup_parent: %q is not the path of a cgroup below the root cgroup", c.CgroupParent))
	}
	p = append(p, oneOf("log_level", c.LogLevel, "error", "warn", "info", "debug", "trace")...)
	p = append(p, oneOf("log_format", c.LogFormat, "text", "json")...)
	for _, s := range settings() {
		if d, ok := s.value(c).(*durationValue); ok && *d <= 0 && s.key != "rbd_request_timeout" {
			p = append(p, s.key+": it must be longer than nothing")
		}
	}
	if c.StepTimeout > c.CreateTimeout {
		p = append(p, fmt.Sprintf("step_timeout: %s is longer than create_timeout, %s", c.StepTimeout, c.CreateTimeout))
	}
	for _, l := range []struct {
		key       string
		size, min Size
	}{{"max_header", c.MaxHeader, 4 << 10}, {"max_body", c.MaxBody, 4 << 10}, {"log_size", c.LogSize, 4 << 10}} {
		if l.size < l.min {
			p = append(p, fmt.Sprintf("%s: %s is too small; %s is the least", l.key, l.size, l.min))
		}
	}
	if c.URICA != "" {
		p = append(p, readable("uri_ca", c.URICA)...)
	}
	return append(append(p, c.validateCache()...), c.validateStorage()...)
}

func (c *Config) validateStorage() Problems {
	p := absolute("credentials_dir", c.CredentialsDir)
	for _, t := range []struct {
		key string
		d   time.Duration
	}{{"rbd_mount_timeout", c.RBDMountTimeout}, {"rbd_request_timeout", c.RBDRequestTimeout}} {
		if t.d%time.Second != 0 {
			p = append(p, fmt.Sprintf("%s: %s is no whole number of seconds, which is what the kernel takes", t.key, t.d))
		}
	}
	return p
}

// minCache is the least that the cache of chunks is of use with.
const minCache = Size(16 << 20)

func (c *Config) validateCache() Problems {
	p := absolute("chunkfs_cache", c.ChunkfsCache)
	if filepath.Clean(c.ChunkfsCache) == "/" {
		p = append(p, "chunkfs_cache: it cannot be the root directory")
	}
	if n := c.ChunkfsCacheSize; n != 0 && n < minCache {
		p = append(p, fmt.Sprintf("chunkfs_cache_size: %s is too small; %s is the least, and 0 chooses by the room that there is", n, minCache))
	}
	return p
}

func absolute(key, path string) Problems {
	if !filepath.IsAbs(path) {
		return Problems{fmt.Sprintf("%s: %q is not an absolute path", key, path)}
	}
	return nil
}

func port(key string, n int) Problems {
	if n < 0 || n > 65535 {
		return Problems{fmt.Sprintf("%s: %d is not a port; it is 0 to 65535", key, n)}
	}
	return nil
}

func needed(key, path, why string) Problems {
	if path == "" {
		return Problems{key + ": needed " + why}
	}
	return readable(key, path)
}

func readable(key, path string) Problems {
	f, err := os.Open(path)
	if err != nil {
		return Problems{key + ": " + err.Error()}
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return Problems{key + ": " + path + " is not a file"}
	}
	return nil
}

func oneOf(key, value string, names ...string) Problems {
	for _, n := range names {
		if n == value {
			return nil
		}
	}
	text := fmt.Sprintf("%s: %q is none of %s", key, value, strings.Join(names, ", "))
	if near := nearest.To(value, names); len(near) > 0 {
		text += " (did you mean " + strings.Join(near, " or ") + "?)"
	}
	return Problems{text}
}
