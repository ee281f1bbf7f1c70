package server

import (
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/windlass-hpc/windlass/swagger/models"
)

// chunkfsCollector tells how the chunkfs mounts fare, when it is asked. What it shows is what GET /mount shows.
type chunkfsCollector struct {
	mounts  atomic.Pointer[func() []*models.Mount]
	single  []chunkfsSeries
	origins []originSeries
	latency *prometheus.Desc
	rss     *prometheus.Desc
}

type chunkfsSeries struct {
	desc  *prometheus.Desc
	typ   prometheus.ValueType
	value func(*models.ChunkfsStatus) float64
}

type originSeries struct {
	desc  *prometheus.Desc
	typ   prometheus.ValueType
	value func(*models.ChunkfsHealth) float64
}

func newChunkfsCollector() *chunkfsCollector {
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	type status = models.ChunkfsStatus
	c := &chunkfsCollector{
		latency: prometheus.NewDesc("windlass_chunkfs_read_duration_seconds", "Reads of chunkfs mounts by how long they took; those that did not wait count as 0.", mountLabels(), nil),
		rss:     prometheus.NewDesc("windlass_chunkfs_server_resident_bytes", "Memory of the chunkfs server.", nil, nil),
	}
	for _, s := range []struct {
		name, help string
		typ        prometheus.ValueType
		value      func(*status) float64
	}{
		{"up", "Whether the server's last answer about the mount is the latest.", gauge, func(s *status) float64 { return truth(s.Error == "") }},
		{"size_bytes", "Data of the image, holes aside.", gauge, func(s *status) float64 { return float64(s.Size) }},
		{"cached_bytes", "Data of it in the cache and verified.", gauge, func(s *status) float64 { return float64(s.Cached) }},
		{"complete", "Whether the origins are not needed any more.", gauge, func(s *status) float64 { return truth(s.Complete) }},
		{"wanted_bytes_total", "Data that readers asked for.", counter, func(s *status) float64 { return float64(s.Wanted) }},
		{"served_bytes_total", "Data given to readers.", counter, func(s *status) float64 { return float64(s.Served) }},
		{"fetched_bytes_total", "Bytes that came from origins, as stored.", counter, func(s *status) float64 { return float64(s.Fetched) }},
		{"shared_bytes_total", "Data copied from other images of the cache.", counter, func(s *status) float64 { return float64(s.Shared) }},
		{"amplification", "Bytes that came, by bytes of the chunks that readers wanted.", gauge, func(s *status) float64 { return s.Amplification }},
		{"hits_total", "Reads that did not wait.", counter, func(s *status) float64 { return float64(s.Hits) }},
		{"misses_total", "Reads that waited.", counter, func(s *status) float64 { return float64(s.Misses) }},
		{"errors_total", "Reads that failed.", counter, func(s *status) float64 { return float64(s.Errors) }},
		{"corrupt_chunks_total", "Chunks refused.", counter, func(s *status) float64 { return float64(s.Corrupt) }},
		{"origin_requests_total", "Requests made of origins.", counter, func(s *status) float64 { return float64(s.Requests) }},
		{"prefetch_done_bytes", "Bytes fetched ahead, as stored.", gauge, func(s *status) float64 { return float64(prefetchOf(s).Done) }},
		{"prefetch_bytes", "Bytes to fetch ahead, as stored.", gauge, func(s *status) float64 { return float64(prefetchOf(s).Total) }},
	} {
		c.single = append(c.single, chunkfsSeries{prometheus.NewDesc("windlass_chunkfs_"+s.name, s.help, mountLabels(), nil), s.typ, s.value})
	}
	for _, s := range []struct {
		name, help string
		typ        prometheus.ValueType
		value      func(*models.ChunkfsHealth) float64
	}{
		{"healthy", "Whether the origin works.", gauge, func(h *models.ChunkfsHealth) float64 { return truth(h.Healthy) }},
		{"latency_seconds", "Time to the first byte, smoothed.", gauge, func(h *models.ChunkfsHealth) float64 { return h.LatencyMs / 1000 }},
		{"failures_total", "Requests that failed.", counter, func(h *models.ChunkfsHealth) float64 { return float64(h.Failures) }},
		{"corrupt_total", "Chunks that were not what they should be.", counter, func(h *models.ChunkfsHealth) float64 { return float64(h.Corrupt) }},
		{"bytes_total", "Bytes that the origin sent.", counter, func(h *models.ChunkfsHealth) float64 { return float64(h.Bytes) }},
	} {
		desc := prometheus.NewDesc("windlass_chunkfs_origin_"+s.name, s.help, append(mountLabels(), "origin"), nil)
		c.origins = append(c.origins, originSeries{desc, s.typ, s.value})
	}
	return c
}

func mountLabels() []string { return []string{"mount", "image", "mode"} }

func prefetchOf(s *models.ChunkfsStatus) models.ChunkfsPrefetch {
	if s.Prefetch == nil {
		return models.ChunkfsPrefetch{}
	}
	return *s.Prefetch
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (c *chunkfsCollector) set(mounts func() []*models.Mount) { c.mounts.Store(&mounts) }

// Describe implements prometheus.Collector.
func (c *chunkfsCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, s := range c.single {
		ch <- s.desc
	}
	for _, s := range c.origins {
		ch <- s.desc
	}
	ch <- c.latency
	ch <- c.rss
}

// Collect implements prometheus.Collector.
func (c *chunkfsCollector) Collect(ch chan<- prometheus.Metric) {
	mounts := c.mounts.Load()
	if mounts == nil {
		return
	}
	rss := int64(0)
	for _, m := range (*mounts)() {
		if m.Chunkfs == nil || m.Chunkfs.Status == nil || m.Chunkfs.Status.Asked == nil {
			continue
		}
		s := m.Chunkfs.Status
		c.collect(ch, s, strconv.FormatInt(int64(m.ID), 10), s.Image, s.Mode)
		rss = max(rss, s.Rss)
	}
	if rss > 0 {
		ch <- prometheus.MustNewConstMetric(c.rss, prometheus.GaugeValue, float64(rss))
	}
}

func (c *chunkfsCollector) collect(ch chan<- prometheus.Metric, s *models.ChunkfsStatus, labels ...string) {
	for _, one := range c.single {
		ch <- prometheus.MustNewConstMetric(one.desc, one.typ, one.value(s), labels...)
	}
	seen := map[string]bool{}
	for _, h := range s.Origins {
		if h == nil || seen[h.URL] { // two that differ only in what is not shown
			continue
		}
		seen[h.URL] = true
		for _, one := range c.origins {
			ch <- prometheus.MustNewConstMetric(one.desc, one.typ, one.value(h), append(labels, h.URL)...)
		}
	}
	buckets, count := map[float64]uint64{}, uint64(0)
	for _, b := range s.Latency {
		if count += uint64(max(0, b.Count)); b.Le > 0 {
			buckets[b.Le] = count
		}
	}
	ch <- prometheus.MustNewConstHistogram(c.latency, count, s.LatencySum, buckets, labels...)
}
