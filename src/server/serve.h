// `mochi serve`: a server of videos, and its worker processes.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "server/server_options.h"

namespace mochi::server {

// Functions of the program that serves.
struct ServerFace {
  LogFn log;
  // Called with "http://127.0.0.1:8188/" when clients can connect.
  std::function<void(const std::string& address, const std::string& model)> on_ready;
  // Starts a worker: a program that calls run_worker() with the same options. "-1": any GPU.
  std::function<std::vector<std::string>(int gpu)> worker_command;
  // Readable when the server shall stop; -1: never.
  int stop_descriptor = -1;
};

// Serves until it is stopped. Throws InvalidRequest naming an option, or Error.
void serve(ServerOptions options, const ServerFace& face);

}  // namespace mochi::server
