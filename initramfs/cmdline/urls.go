package cmdline

import "github.com/windlass-hpc/windlass/internal/fetch"

// setURL takes what it is given, so that a wrong one is tried, told and reported as what cannot be had is; that it is wrong is told at once,
// too, while somebody may still be looking.
func (o *Options) setURL(name string, to *string) func(string) error {
	return func(v string) error {
		*to = v
		if _, err := fetch.Parse(prefix+name, v); err != nil {
			o.warn(err.Error())
		}
		return nil
	}
}

func (o *Options) setReport(v string) error {
	if _, err := fetch.Parse("it", v); err != nil {
		return err
	}
	o.Report = v
	return nil
}
