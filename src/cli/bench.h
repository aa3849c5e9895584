// `mochi bench`: how fast operations and networks are.
#pragma once

#include <filesystem>
#include <optional>

#include "bench/bench.h"
#include "flags/cli11_fwd.h"

namespace mochi::cli {

struct BenchOptions {
  bench::BenchRequest request;
  std::optional<std::filesystem::path> json_file, plot_file;
};

// Declares the flags; they write into `options`, which must outlive the parsing.
void add_bench_flags(CLI::App& command, BenchOptions& options);

// Prints a table to stdout. Throws Error, after printing, when a result was wrong.
void run_bench(const BenchOptions& options);

}  // namespace mochi::cli
