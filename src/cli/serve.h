// `mochi serve`.
#pragma once

#include <string>
#include <vector>

#include "flags/cli11_fwd.h"
#include "server/server_options.h"

namespace mochi::cli {

struct ServeOptions {
  server::ServerOptions server;
  std::vector<std::string> command;  // the words of the command line, the program's name first
};

// Declares the flags; they write into `options`, which must outlive the parsing.
void add_serve_flags(CLI::App& command, ServeOptions& options);

void run_serve(const ServeOptions& options);

// The command of a worker of the server: "mochi serve-worker GPU" and the flags of `mochi serve`.
inline constexpr const char* kWorkerCommand = "serve-worker";
// Runs one. `gpu` is a number, or "any".
void run_serve_worker(const ServeOptions& options, const std::string& gpu);

}  // namespace mochi::cli
