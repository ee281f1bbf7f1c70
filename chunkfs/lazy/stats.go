package lazy

// Stats are the counters of a device, as control.Stats has them. Bytes are of the device, plain, where nothing else is said.
type Stats struct {
	Wanted    int64  // asked for by readers
	Served    int64  // given to readers
	Fetched   int64  // stored bytes of chunks that came from origins
	Needed    int64  // stored bytes of the chunks that readers wanted, each once
	Shared    int64  // plain bytes copied from elsewhere in the cache
	Hits      int64  // reads answered without waiting
	Misses    int64  // reads that waited
	Errors    int64  // reads that failed
	Corrupt   int64  // chunks refused
	Requests  int64  // fetches begun; an origin may split or repeat one
	LastError string // names the chunk, and the origin where one is to blame
	Latency   []Bucket
	Prefetch  Prefetch
}

// Amplification is stored bytes that came, to stored bytes that readers wanted; 0 when they wanted none.
func (s Stats) Amplification() float64 {
	if s.Needed == 0 {
		return 0
	}
	return float64(s.Fetched) / float64(s.Needed)
}

// Bucket counts reads that took at most Le seconds, and longer than the bucket before. Le 0, in the last one: no limit.
type Bucket struct {
	Le    float64
	Count int64
}

// Prefetch is how far Replay or Complete is, in stored bytes.
type Prefetch struct {
	State string // none, trace, all, done
	Done  int64
	Total int64
}
