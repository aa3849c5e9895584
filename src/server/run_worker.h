// The worker process of the server: it owns an engine and makes one video at a time.
#pragma once

#include "server/server_options.h"

namespace mochi::server {

// Obeys the messages on its standard input (worker.h) until that ends, and writes its own to its
// standard output. `gpu` only names its lock file, which keeps a second worker out of the first
// one's files.
void run_worker(ServerOptions options, int gpu);

}  // namespace mochi::server
