package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/windlass-hpc/windlass/chunkfs/build"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/source"
	"github.com/windlass-hpc/windlass/chunkfs/store"
)

// buildFlags say how an image is built.
type buildFlags struct {
	store, format       string
	kind, platform, ref string
	crossMounts         bool
	tag, codec, digest  string
	level, jobs         int
	chunk, pack         sizeFlag
	trace, like, role   string
	recall              string
	inline              sizeFlag
	labels              []string
}

func (a *app) imageBuildCommand() *cobra.Command {
	var b buildFlags
	cmd := &cobra.Command{
		Use:   "build SOURCE -o STORE --tag NAME",
		Short: "Build an image and publish it in a store",
		Long: `Build an image and publish it under a tag. SOURCE is a directory, a tar archive (plain or compressed by gzip, zstd or xz; - is stdin), a
squashfs, or an OCI image: a layout, an archive of one, or what docker save writes. The store is made when it is not there. What it has
already is reused, so that another version adds only what is new. Nodes see the old image under the tag or the new one, never half of it.`,
		Example: `  windlass image build ./rootfs -o /srv/images --tag debian/12
  docker save app:3 | windlass image build - -o /srv/images --tag app:3
  windlass image build ./layout -o /srv/images --tag app --ref 3.1 --platform linux/arm64
  windlass image build ./rootfs -o /srv/images --tag debian/12 --like debian/12
  windlass image build /srv/rootfs -o /srv/images --tag debian/12 --recall /srv/rootfs.recall`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.buildImage(cmd, args[0], b) },
	}
	f := cmd.Flags()
	f.StringVarP(&b.store, "output", "o", "", "directory of the store")
	f.StringVar(&b.format, "format", formatTable, "how to answer: table, json or yaml")
	f.StringVar(&b.tag, "tag", "", "name of the image in the store, such as debian/12")
	f.StringVar(&b.kind, "kind", "", "what SOURCE is, where looking at it is not enough: "+words(source.Kinds()))
	f.StringVar(&b.platform, "platform", "", "of an OCI image: OS/ARCH[/VARIANT]; unsaid, that of this machine")
	f.StringVar(&b.ref, "ref", "", "of an OCI layout with several images: name or digest")
	f.BoolVar(&b.crossMounts, "cross-mounts", false, "of a directory: take what is mounted below it, too")
	f.StringVar(&b.codec, "codec", "zstd", "how chunks are compressed: zstd, lz4 or none")
	f.IntVar(&b.level, "level", 0, "of the codec (default 7 for zstd); 0 is what the codec takes itself")
	f.StringVar(&b.digest, "digest", "blake3", "what names chunks: blake3 or sha256")
	f.Var(&b.chunk, "chunk-size", "bytes of a chunk on average, a power of two (default 64KiB)")
	f.Var(&b.pack, "pack-size", "bytes of a pack, about (default 32MiB)")
	f.Var(&b.inline, "inline", "bytes up to which a file lies in the metadata (default 512B)")
	f.StringVar(&b.recall, "recall", "", "file that remembers what the files of a directory were made of: those that have not changed since are not read again")
	f.StringVar(&b.trace, "trace", "", "file of a trace: what it names lies together, in packs of its own")
	f.StringVar(&b.like, "like", "", "tag of the store whose trace does the same")
	f.StringVar(&b.role, "role", "boot", "of the trace of --like")
	f.StringArrayVarP(&b.labels, "label", "l", nil, "label KEY=VALUE; may be given again")
	f.IntVarP(&b.jobs, "jobs", "j", 0, "threads; 0 is one a processor")
	must(cmd.MarkFlagDirname("output"))
	return cmd
}

// words lists what a flag takes.
func words[T ~string](list []T) string {
	var out []string
	for _, w := range list {
		out = append(out, string(w))
	}
	return strings.Join(out, ", ")
}

func (a *app) buildImage(cmd *cobra.Command, from string, b buildFlags) error {
	if b.store == "" || b.tag == "" {
		return usagef(cmd, "say where the image goes and what its name is: -o STORE --tag NAME")
	}
	if !contains(formats(), b.format) {
		return usagef(cmd, "--format: %q is none of %s", b.format, strings.Join(formats(), ", "))
	}
	a.output = b.format
	o, err := b.options(cmd)
	if err != nil {
		return err
	}
	if err := b.checkStore(cmd, from); err != nil {
		return err
	}
	left := &leftOut{w: a.err}
	src, err := source.Open(cmd.Context(), from, source.Options{Kind: source.Kind(b.kind), Stdin: a.in, CrossMounts: b.crossMounts,
		Platform: b.platform, Ref: b.ref, Skipped: left.add})
	if err != nil {
		return err
	}
	defer src.Close()
	s, err := store.Create(b.store)
	if err != nil {
		return err
	}
	if o.Trace, err = b.readTrace(s); err != nil {
		return err
	}
	show := a.bar("building")
	o.Progress = func(p build.Progress) {
		show.say(p.Read, p.Total, fmt.Sprintf("  %d files, %s new", p.Files, size(p.New)))
	}
	r, err := build.Build(cmd.Context(), src, s, o)
	show.end()
	left.end()
	if err != nil {
		return err
	}
	if r.Recall != nil {
		fmt.Fprintf(a.err, "windlass: the image is published, but the next build reads everything again: %v\n", r.Recall)
	}
	answer := newBuilt(o.Tag, s.Dir(), r)
	return a.print(answer, answer.write)
}

// checkStore refuses, before anything is made, a store that cannot be written to and one that would become a part of its own image.
func (b *buildFlags) checkStore(cmd *cobra.Command, from string) error {
	if strings.Contains(b.store, "://") {
		return usagef(cmd, "-o %s: a store is built in a directory; `windlass image serve` gives it to others", b.store)
	}
	if err := format.CheckTag(b.tag); err != nil {
		return usagef(cmd, "--tag: %w", err)
	}
	if st, err := os.Stat(from); from == source.Stdin || err != nil || !st.IsDir() {
		return nil
	}
	rel, err := filepath.Rel(resolved(from), resolved(b.store))
	if err == nil && filepath.IsLocal(rel) {
		return usagef(cmd, "-o %s lies in %s, of which the image is made: it would hold the store itself; name a directory elsewhere", b.store, from)
	}
	return nil
}

// resolved is the absolute path without symbolic links, as far as it is there.
func resolved(path string) string {
	path = absolute(path)
	if to, err := filepath.EvalSymlinks(path); err == nil || path == "/" {
		return to
	}
	return filepath.Join(resolved(filepath.Dir(path)), filepath.Base(path))
}

func (b *buildFlags) options(cmd *cobra.Command) (build.Options, error) {
	o := build.Defaults()
	o.Tag, o.Recall, o.Labels = b.tag, b.recall, map[string]string{}
	if err := o.Codec.UnmarshalText([]byte(b.codec)); err != nil {
		return o, usagef(cmd, "--codec: %w", err)
	}
	if err := o.Algorithm.UnmarshalText([]byte(b.digest)); err != nil {
		return o, usagef(cmd, "--digest: %w", err)
	}
	if b.codec != "zstd" { // the default level is zstd's
		o.Level = 0
	}
	if cmd.Flags().Changed("level") {
		o.Level = b.level
	}
	if cmd.Flags().Changed("inline") {
		o.Inline = int(b.inline)
	}
	if b.chunk > 0 { // the bounds keep their distance
		o.AvgChunk, o.MinChunk, o.MaxChunk = int(b.chunk), int(b.chunk)*o.MinChunk/o.AvgChunk, int(b.chunk)*o.MaxChunk/o.AvgChunk
		o.Group = min(o.Group, o.MaxChunk)
	}
	if b.pack > 0 {
		o.PackSize = int(b.pack)
	}
	if b.jobs > 0 {
		o.Parallel = b.jobs
	}
	for _, l := range b.labels {
		key, value, ok := strings.Cut(l, "=")
		if !ok {
			return o, usagef(cmd, "--label %q: write KEY=VALUE", l)
		}
		o.Labels[key] = value
	}
	if b.trace != "" && b.like != "" {
		return o, usagef(cmd, "--trace and --like exclude each other")
	}
	return o, nil
}

// readTrace gives the trace that the image is laid out by, or nil.
func (b *buildFlags) readTrace(s *store.Store) (*format.Trace, error) {
	switch {
	case b.trace != "":
		text, err := os.ReadFile(b.trace)
		if err != nil {
			return nil, usageError{fmt.Errorf("--trace: %w", err), ""}
		}
		t, err := format.DecodeTrace(text)
		if err != nil {
			return nil, fmt.Errorf("--trace %s: %w", b.trace, err)
		}
		return t, nil
	case b.like != "":
		d, err := s.Resolve(b.like)
		if err != nil {
			return nil, fmt.Errorf("--like: %w", err)
		}
		t, err := s.Trace(d, b.role)
		if err != nil {
			return nil, fmt.Errorf("--like %s: %w", b.like, err)
		}
		return t, nil
	}
	return nil, nil
}

// built is what build answers. Bytes are as stored, but for data and device.
type built struct {
	Image     string  `json:"image"`
	Tag       string  `json:"tag"`
	Store     string  `json:"store"`
	Files     int64   `json:"files"`
	Data      int64   `json:"data"`
	Device    int64   `json:"device"`
	Stored    int64   `json:"stored"`
	Chunks    int64   `json:"chunks"`
	New       int64   `json:"new"`
	NewChunks int64   `json:"new_chunks"`
	Seconds   float64 `json:"seconds"`
}

func newBuilt(tag, at string, r build.Result) *built {
	return &built{Image: r.Image.String(), Tag: tag, Store: at, Files: r.Files, Data: r.Plain, Device: r.Device, Stored: r.Stored,
		Chunks: r.Chunks, New: r.New, NewChunks: r.NewChunks, Seconds: r.Took.Seconds()}
}

func (b *built) write(w io.Writer) error {
	var f facts
	f.add("image", "%s", b.Image)
	f.add("tag", "%s#%s", b.Store, b.Tag)
	f.add("holds", "%d files, %s", b.Files, size(b.Data))
	f.add("stored", "%s in %d chunks", size(b.Stored), b.Chunks)
	f.add("added", "%s: %d new chunks, with index and metadata", size(b.New), b.NewChunks)
	took := time.Duration(b.Seconds * float64(time.Second)).Round(10 * time.Millisecond)
	f.add("took", "%v, %s/s", took, size(int64(float64(b.Data)/max(b.Seconds, 0.001))))
	return f.write(w)
}
