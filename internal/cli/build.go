package cli

import "runtime/debug"

// built gives the version and commit that the Go tool wrote into the program, where Options says none.
func (o *Options) built() {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return
	}
	if o.Version == "" {
		o.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && o.Commit == "" {
			o.Commit = s.Value
		}
	}
}
