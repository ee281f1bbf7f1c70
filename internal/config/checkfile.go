package config

// CheckFile says what is wrong with a file that is for another machine: unknown keys, and values that cannot be. Whether the values
// fit together, and what they name is there, is known on that machine alone. The error is of type Problems.
func CheckFile(path string) error {
	file, err := readFile(&Flags{File: path})
	if err != nil {
		return err
	}
	var problems Problems
	c := Default()
	none := func(string) (string, bool) { return "", false }
	for _, s := range settings() {
		problems = append(problems, s.resolve(&c, file, none, nil)...)
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}
