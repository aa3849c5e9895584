// HTTP/1.1 over TCP, by Boost.Beast: connections, limits and time-outs. It is also the loop that
// runs the server.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "server/api.h"
#include "server/event_loop.h"
#include "server/server_options.h"

namespace mochi::server {

class HttpServer final : public EventLoop {
 public:
  // Listens. Throws Error naming the address if that is impossible.
  explicit HttpServer(const ServerOptions& options);
  ~HttpServer() override;

  // "http://127.0.0.1:8188/"
  std::string address() const;

  // Answers requests until `may_end` returns true, which is asked ten times a second. Calls `tick`
  // once a second.
  void run(Api& api, const std::function<void()>& tick, const std::function<bool()>& may_end);
  // Drops all connections, and what they hold. Afterwards nothing is watched.
  void close();

  void watch(int descriptor, std::function<void()> on_readable) override;
  void unwatch(int descriptor) override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mochi::server
