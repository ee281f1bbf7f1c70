package login

// ParseLUNs is parseLUNs, for the fuzzer.
var ParseLUNs = parseLUNs
