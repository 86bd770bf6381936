# make demo: from nothing to a table and a report.  make test: every test.  make help: the rest.

# The same flags everywhere, so that nothing is built twice: other flags build everything again.
FLAGS = -c release -Xswiftc -enable-testing
PROGRAM = .build/release/hadnet-dist
RANKS = 2
CASES = 48
SECONDS = 60
KILLS = 20

.PHONY: demo test test-fast fuzz docs soak build format lint clean clean-demo help dependencies

demo: build  ## the main job on a synthetic data set, 2 ranks, a few minutes; ends with a table
	@test -e demo/data || { rm -rf demo/data.part && \
	  $(PROGRAM) phantom demo/data.part --cases $(CASES) --shape 48x48x48 --seed 1 --layout brats2019 && \
	  mv demo/data.part demo/data; }
	@if [ -e demo/run/unfinished ] || [ ! -e demo/run/evaluation/table1.md ]; then \
	  scripts/mpirun -n $(RANKS) $(PROGRAM) study recipes/demo.yaml --stages teacher,student,hadnet --data demo/data --run demo/run --threads 1 \
	    $$(test -e demo/run/recipe.yaml && echo --resume); \
	else $(PROGRAM) report demo/run; fi

test: dependencies  ## builds and runs every test, those under mpirun included
	swift build $(FLAGS) --build-tests
	swift test $(FLAGS) --skip-build

test-fast: dependencies  ## builds and runs the unit tests: all but those that start programs
	swift build $(FLAGS) --build-tests
	swift test $(FLAGS) --skip-build --skip CommandTests

fuzz: dependencies  ## SECONDS=60 of mutated inputs for every parser; SEED=n for the same ones again
	HADNET_FUZZ=1 swift build -c debug --scratch-path .build-fuzz --product Fuzz
	scripts/fuzz $(SECONDS) $(SEED)

docs: dependencies  ## builds the rooms' documentation into .build/docs; a warning is an error
	@# libnifti's headers, which the tool that reads the rooms does not look for by itself.
	CPATH=/usr/include/nifti HADNET_DOCS=1 swift package $(FLAGS) --allow-writing-to-directory .build/docs generate-documentation \
	  $(patsubst %.docc,--target %,$(notdir $(wildcard Sources/*/*.docc Sources/HADNet/*/*.docc))) \
	  --enable-experimental-combined-documentation --symbol-graph-minimum-access-level package \
	  --warnings-as-errors --output-path .build/docs
	@echo "To read it: python3 -m http.server --directory .build/docs, then http://localhost:8000/documentation"

soak: build  ## interrupts a tiny study KILLS=20 times, goes on, compares the bits; SEED=n repeats the choices
	scripts/soak $(KILLS) $(SEED)

build: dependencies  ## builds the program: .build/release/hadnet-dist
	swift build $(FLAGS)

format:  ## formats all sources
	swift format --in-place --recursive Sources Tests Package.swift

lint:  ## checks the format of all sources
	swift format lint --strict --recursive Sources Tests Package.swift

clean:  ## removes what was built
	rm -rf .build .build-fuzz

clean-demo:  ## removes the demo's data and results
	rm -rf demo

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1:\t/p' $(MAKEFILE_LIST)

dependencies:
	@scripts/install-dependencies
