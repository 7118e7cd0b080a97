// What Docker Compose makes of a folder's compose.yaml and .env: schema, interpolation and consistency are judged by the very loader that
// `docker compose` uses, and no engine is needed.
//
// usage: compose FOLDER [NAME=VALUE ...]: the variables of the shell, of which this process' own are none.
//
// Prints {"project": what `docker compose config --format json` shows, "variables": the names in ${...}}. A warning counts as an error.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/sirupsen/logrus"
)

// resolved is what is printed.
type resolved struct {
	Project   *types.Project               `json:"project"`
	Variables map[string]template.Variable `json:"variables"`
}

// warnings keeps what the loader only warns of: a variable without a value or a default, an attribute that is obsolete.
type warnings struct{ said []error }

func (*warnings) Levels() []logrus.Level { return []logrus.Level{logrus.WarnLevel} }

func (w *warnings) Fire(entry *logrus.Entry) error {
	w.said = append(w.said, errors.New(entry.Message))
	return nil
}

// load reads the folder's file as `docker compose config` does in a shell with these variables.
func load(ctx context.Context, folder string, shell []string) (*resolved, error) {
	options := func(more ...cli.ProjectOptionsFn) (*cli.ProjectOptions, error) {
		functions := []cli.ProjectOptionsFn{
			cli.WithWorkingDirectory(folder), cli.WithEnv(shell), cli.WithEnvFiles(), cli.WithDotEnv, cli.WithConfigFileEnv, cli.WithDefaultConfigPath,
		}
		return cli.NewProjectOptions(nil, append(functions, more...)...)
	}
	plain, err := options()
	if err != nil {
		return nil, err
	}
	project, err := plain.LoadProject(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := options(cli.WithInterpolation(false))
	if err != nil {
		return nil, err
	}
	model, err := raw.LoadModel(ctx)
	if err != nil {
		return nil, err
	}
	return &resolved{Project: project, Variables: template.ExtractVariables(model, template.DefaultPattern)}, nil
}

func run() error {
	if len(os.Args) < 2 {
		return errors.New("usage: compose FOLDER [NAME=VALUE ...]")
	}
	warned := &warnings{}
	logrus.AddHook(warned)
	logrus.SetOutput(io.Discard)
	found, err := load(context.Background(), os.Args[1], os.Args[2:])
	if err := errors.Join(append(warned.said, err)...); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "compose:", err)
		os.Exit(1)
	}
}
