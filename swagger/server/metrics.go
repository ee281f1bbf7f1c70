package server

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics is what /metrics shows, in a registry of its own.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight *prometheus.GaugeVec
	steps    *prometheus.HistogramVec
	objects  *objectCollector
	chunkfs  *chunkfsCollector
	left     atomic.Pointer[func() int]
}

// NewMetrics makes them all, at zero.
func NewMetrics() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "windlass_http_requests_total", Help: "Requests by route, method and status.",
		}, []string{"route", "method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "windlass_http_request_duration_seconds", Help: "Duration of requests; streams included.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"route", "method"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "windlass_http_requests_in_flight", Help: "Requests that run now, by the budget they take from.",
		}, []string{"class"}),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "windlass_step_duration_seconds", Help: "Duration of single changes to the node, by what was done and how it ended.",
			Buckets: []float64{.0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5, 10, 60},
		}, []string{"stage", "result"}),
		objects: &objectCollector{desc: prometheus.NewDesc("windlass_objects", "Objects by kind and state.", []string{"kind", "state"}, nil)},
		chunkfs: newChunkfsCollector(),
	}
	left := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "windlass_processes_left_behind", Help: "Processes of the daemon that wait in the kernel for storage that does not answer.",
	}, m.countLeft)
	m.registry.MustRegister(left, m.requests, m.duration, m.inFlight, m.steps, m.objects, m.chunkfs,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *Metrics) countLeft() float64 {
	if count := m.left.Load(); count != nil {
		return float64((*count)())
	}
	return 0
}

// ObserveStep takes the duration of one change to the node. It may be called from any goroutine.
func (m *Metrics) ObserveStep(stage string, d time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.steps.WithLabelValues(stage, result).Observe(d.Seconds())
}

// ObserveStep is the same as that of the server's Metrics.
func (s *Server) ObserveStep(stage string, d time.Duration, err error) {
	s.metrics.ObserveStep(stage, d, err)
}

func (m *Metrics) request(route, method string, status int, took time.Duration) {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
	default:
		method = "other" // a client may invent as many as it likes
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	m.duration.WithLabelValues(route, method).Observe(took.Seconds())
}

func (m *Metrics) running(c class) (done func()) {
	g := m.inFlight.WithLabelValues(string(c))
	g.Inc()
	return g.Dec
}

func (s *Server) showMetrics(w http.ResponseWriter, c *call) error {
	s.untilTaken(w)
	promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}).ServeHTTP(w, c.Request)
	return nil
}

// objectCollector counts when it is asked.
type objectCollector struct {
	desc  *prometheus.Desc
	count atomic.Pointer[func() map[string]map[string]int]
}

func (o *objectCollector) set(count func() map[string]map[string]int) { o.count.Store(&count) }

// Describe implements prometheus.Collector.
func (o *objectCollector) Describe(ch chan<- *prometheus.Desc) { ch <- o.desc }

// Collect implements prometheus.Collector.
func (o *objectCollector) Collect(ch chan<- prometheus.Metric) {
	count := o.count.Load()
	if count == nil {
		return
	}
	for kind, states := range (*count)() {
		for state, n := range states {
			ch <- prometheus.MustNewConstMetric(o.desc, prometheus.GaugeValue, float64(n), kind, state)
		}
	}
}
