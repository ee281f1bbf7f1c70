package rbd

import "time"

// The keys of what is kept with an image, in its metadata.
const (
	keyDigest    = "windlass.digest"    // of the file, such as sha256:…
	keyLength    = "windlass.length"    // of the file, in bytes
	keySource    = "windlass.source"    // name of the file
	keyPublisher = "windlass.publisher" // who published it
	keyPublished = "windlass.published" // when, RFC 3339
	keyHolds     = "windlass.holds"     // what is in it: a file system as mount(8) knows it
)

// State says what an image is.
type State string

// The states of images.
const (
	Published  State = "published"  // whole, by this package
	Foreign    State = "foreign"    // made by other means
	InProgress State = "publishing" // somebody is writing it
	Unfinished State = "unfinished" // whoever was writing it is gone; the next publish of the same name removes it
	Removing   State = "removing"   // a removal that has not ended; the same removes it
	Replaced   State = "replaced"   // another has its name now; nodes may still read it
)

// Info is what the cluster knows of an image.
type Info struct {
	Name       Name       `json:"name"`
	State      State      `json:"state"`
	Of         string     `json:"of,omitempty"` // what it is, was or was to be called, where that differs
	Size       uint64     `json:"size"`         // in bytes
	ObjectSize uint64     `json:"object_size"`
	Features   []string   `json:"features"`
	Snapshots  []Snapshot `json:"snapshots"`
	Watchers   []string   `json:"watchers"` // addresses of who has it open to write
	Holds      string     `json:"holds,omitempty"`
	Digest     string     `json:"digest,omitempty"`
	Length     int64      `json:"length,omitempty"` // of the file that it was made of
	Source     string     `json:"source,omitempty"`
	Publisher  string     `json:"publisher,omitempty"`
	Published  *time.Time `json:"published,omitempty"`
	Error      string     `json:"error,omitempty"` // why the rest is not known
}

// Snapshot is one of an image.
type Snapshot struct {
	Name      string   `json:"name"`
	Size      uint64   `json:"size"`
	Protected bool     `json:"protected"`
	Clones    []string `json:"clones"` // images made from it, which need it
}

// fill takes over what is kept with the image. Others can write there, so what makes no sense is left out.
func (i *Info) fill(kept map[string]string) {
	i.Digest, i.Source, i.Publisher, i.Holds = kept[keyDigest], kept[keySource], kept[keyPublisher], kept[keyHolds]
	i.Length = number(kept[keyLength])
	if at, err := time.Parse(time.RFC3339, kept[keyPublished]); err == nil {
		i.Published = &at
	}
}

// decide sets the state.
func (i *Info) decide() {
	of, mark := marked(i.Name.Image)
	if mark != "" {
		i.Of = of
	}
	switch {
	case mark == oldMark:
		i.State = Replaced
	case mark == goneMark:
		i.State = Removing
	case mark == partMark && len(i.Watchers) > 0:
		i.State = InProgress
	case mark == partMark:
		i.State = Unfinished
	case i.Digest != "":
		i.State = Published
	default:
		i.State = Foreign
	}
}
