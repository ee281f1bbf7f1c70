// Package contract holds requests to swagger.yaml: it checks paths, queries and bodies and fills in what was left out.
//
// It owns the reading of the document and of JSON. It knows no route's meaning, calls nobody and answers no request; what it finds is
// an error of kind Invalid or TooLarge, or a *Violation. The checks of single values and their codes are go-openapi's; the walk is our
// own, for it has to cut references and nulls as the forerunner did, and to name every place.
package contract

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	oaerrors "github.com/go-openapi/errors"
	"github.com/go-openapi/loads"
	"github.com/go-openapi/spec"
)

// Contract is a compiled document. It is read-only and used from any goroutine.
type Contract struct {
	BasePath   string
	operations []*Operation
}

// Operation is one method on one path.
type Operation struct {
	Method string
	Path   string // below BasePath, such as /container/{id}/log
	ID     string // operationId
	body   *schema
	params []param
}

// New compiles a document. A word that it uses and the checks do not know is an error.
func New(document []byte) (*Contract, error) {
	doc, err := loads.Analyzed(document, "2.0")
	if err != nil {
		return nil, fmt.Errorf("read the contract: %w", err)
	}
	sw := doc.Spec()
	c := &Contract{BasePath: sw.BasePath}
	defs := &compiler{defs: sw.Definitions, done: map[string]*schema{}}
	for path, item := range sw.Paths.Paths {
		for method, op := range map[string]*spec.Operation{
			http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodDelete: item.Delete,
			http.MethodPatch: item.Patch, http.MethodPut: item.Put, http.MethodHead: item.Head, http.MethodOptions: item.Options,
		} {
			if op == nil {
				continue
			}
			compiled, err := newOperation(defs, sw.Parameters, append(item.Parameters, op.Parameters...))
			if err != nil {
				return nil, fmt.Errorf("read the contract: %s %s: %w", method, path, err)
			}
			compiled.Method, compiled.Path, compiled.ID = method, path, op.ID
			c.operations = append(c.operations, compiled)
		}
	}
	return c, nil
}

func newOperation(defs *compiler, shared map[string]spec.Parameter, params []spec.Parameter) (*Operation, error) {
	op := &Operation{}
	for _, p := range params {
		p, err := resolve(shared, p)
		if err != nil {
			return nil, err
		}
		if p.In == "body" {
			if op.body, err = defs.compile(p.Schema); err != nil {
				return nil, err
			}
			continue
		}
		compiled, err := newParam(p)
		if err != nil {
			return nil, err
		}
		op.params = append(op.params, compiled)
	}
	return op, nil
}

// Operations lists all, in no order.
func (c *Contract) Operations() []*Operation { return c.operations }

// Operation finds one by its operationId; nil when there is none.
func (c *Contract) Operation(id string) *Operation {
	for _, op := range c.operations {
		if op.ID == id {
			return op
		}
	}
	return nil
}

// HasBody reports whether the operation takes a body.
func (op *Operation) HasBody() bool { return op.body != nil }

// Body checks a body and decodes it into the model at out, defaults filled in.
func (op *Operation) Body(raw []byte, out any) error {
	v, err := parse(raw)
	if err != nil {
		return err
	}
	if err := noID(op.body, v); err != nil {
		return err
	}
	c := check{in: "body"}
	if v == nil {
		c.wrongType("", article(op.body.typ), nil)
		return c.err()
	}
	v = c.value(op.body, "", v)
	if err := c.err(); err != nil {
		return err
	}
	clean, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("read the body: %w", err)
	}
	err = json.Unmarshal(clean, out)
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return &Violation{Code: oaerrors.InvalidTypeCode, Message: fmt.Sprintf("%s in body must be %s", wrong.Field, wrong.Type)}
	}
	if err != nil {
		return fmt.Errorf("read the body: %w", err)
	}
	return nil
}
