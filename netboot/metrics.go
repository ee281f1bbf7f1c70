package netboot

import (
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/windlass-hpc/windlass/internal/bootstage"
	"github.com/windlass-hpc/windlass/netboot/lease"
	"github.com/windlass-hpc/windlass/netboot/nodes"
)

// meter is what /metrics shows, in a registry of its own.
type meter struct {
	registry  *prometheus.Registry
	messages  *prometheus.CounterVec
	dropped   *prometheus.CounterVec
	others    *prometheus.CounterVec
	transfers *prometheus.CounterVec
	sent      *prometheus.CounterVec
	requests  *prometheus.CounterVec
	reports   *prometheus.CounterVec
	state     *stateCollector
}

func newMeter() *meter {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "windlass_netboot_" + name, Help: help}, labels)
	}
	m := &meter{
		registry:  prometheus.NewRegistry(),
		messages:  counter("dhcp_messages_total", "DHCP messages by type and by what they were answered with.", "interface", "asked", "answered"),
		dropped:   counter("dhcp_dropped_total", "DHCP packets that came to nothing, by the reason.", "interface", "reason"),
		others:    counter("dhcp_other_server_total", "Messages that show another DHCP server that gives addresses on the wire.", "interface"),
		transfers: counter("tftp_transfers_total", "TFTP transfers by how they ended.", "result"),
		sent:      counter("sent_bytes_total", "Bytes sent to nodes.", "protocol"),
		requests:  counter("http_requests_total", "HTTP requests by route, method and status.", "route", "method", "code"),
		reports:   counter("reports_total", "Reports of nodes by stage and result.", "stage", "result"),
		state:     newStateCollector(),
	}
	m.registry.MustRegister(m.messages, m.dropped, m.others, m.transfers, m.sent, m.requests, m.reports, m.state,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *meter) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Message implements dhcp.Meter.
func (m *meter) Message(wire, asked, answered string) {
	if len(asked) > 10 { // a type that there is not: nodes may invent 250 of them
		asked = "other"
	}
	if answered == "" {
		answered = "none"
	}
	m.messages.WithLabelValues(wire, asked, answered).Inc()
}

// Dropped implements dhcp.Meter.
func (m *meter) Dropped(wire, reason string) { m.dropped.WithLabelValues(wire, reason).Inc() }

// OtherServer implements dhcp.Meter.
func (m *meter) OtherServer(wire string) { m.others.WithLabelValues(wire).Inc() }

// Transfer implements tftp.Meter.
func (m *meter) Transfer(result string, bytes int64) {
	m.transfers.WithLabelValues(result).Inc()
	m.sent.WithLabelValues("tftp").Add(float64(bytes))
}

// Request implements web.Meter.
func (m *meter) Request(route, method string, status int, bytes int64) {
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	m.sent.WithLabelValues("http").Add(float64(bytes))
}

// Reported implements web.Meter.
func (m *meter) Reported(stage bootstage.Stage, failed bool) {
	result := "ok"
	if failed {
		result = "error"
	}
	m.reports.WithLabelValues(string(stage), result).Inc()
}

func (m *meter) watch(n *nodes.Registry, l *lease.Table, pools []lease.Pool) {
	m.state.watched.Store(&watched{n, l, pools})
}

type watched struct {
	nodes  *nodes.Registry
	leases *lease.Table
	pools  []lease.Pool
}

// stateCollector counts when it is asked.
type stateCollector struct {
	nodes, used, total *prometheus.Desc
	watched            atomic.Pointer[watched]
}

func newStateCollector() *stateCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("windlass_netboot_"+name, help, labels, nil)
	}
	return &stateCollector{
		nodes: desc("nodes", "Nodes by the stage that they are in; never is who was not seen yet.", "stage"),
		used:  desc("pool_used", "Addresses of the pool in use, offered ones included.", "subnet"),
		total: desc("pool_addresses", "Addresses of the pool.", "subnet"),
	}
}

// Describe implements prometheus.Collector.
func (s *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- s.nodes
	ch <- s.used
	ch <- s.total
}

// Collect implements prometheus.Collector.
func (s *stateCollector) Collect(ch chan<- prometheus.Metric) {
	w := s.watched.Load()
	if w == nil {
		return
	}
	for stage, n := range w.nodes.Count() {
		name := string(stage)
		if name == "" {
			name = "never"
		}
		ch <- prometheus.MustNewConstMetric(s.nodes, prometheus.GaugeValue, float64(n), name)
	}
	for _, p := range w.pools {
		used, total := w.leases.Count(p)
		ch <- prometheus.MustNewConstMetric(s.used, prometheus.GaugeValue, float64(used), p.Subnet.String())
		ch <- prometheus.MustNewConstMetric(s.total, prometheus.GaugeValue, float64(total), p.Subnet.String())
	}
}
