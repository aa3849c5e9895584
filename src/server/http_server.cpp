#include "server/http_server.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <cctype>
#include <chrono>
#include <ctime>
#include <map>
#include <random>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "base/file_descriptor.h"
#include "server/event_stream.h"

namespace mochi::server {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using std::chrono::milliseconds;
using std::chrono::seconds;
using Clock = std::chrono::steady_clock;
template <typename T>
using Awaitable = asio::awaitable<T>;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

constexpr std::uint32_t kMaxHeaderBytes = 16 * 1024;
constexpr std::size_t kMaxBufferBytes = 64 * 1024;  // holds requests that are read ahead
constexpr unsigned kHttp11 = 11;
constexpr seconds kIdleTimeout{60};    // between two requests of a connection
constexpr seconds kHeaderTimeout{10};  // for a request line and its headers
constexpr seconds kBodyTimeout{30};
constexpr seconds kWriteTimeout{30};     // for each block
constexpr seconds kKeepAlivePeriod{15};  // between two comments in a stream of events
constexpr milliseconds kAcceptRetry{100};
constexpr std::size_t kFileBlockBytes = 256 * 1024;

constexpr std::array kSecurityHeaders{
    std::pair{"content-security-policy",
              "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; style-src "
              "'self'; script-src 'self'; connect-src 'self'; frame-ancestors 'none'; base-uri "
              "'none'; form-action 'self'"},
    std::pair{"x-content-type-options", "nosniff"},
    std::pair{"x-frame-options", "DENY"},
    std::pair{"referrer-policy", "no-referrer"},
    std::pair{"cross-origin-opener-policy", "same-origin"},
    std::pair{"cross-origin-resource-policy", "same-origin"},
};

using EmptyResponse = http::response<http::empty_body>;

// Ends a read that takes too long. The time-outs of Beast's stream would close the socket, so that
// the client could not be told.
class ReadDeadline {
 public:
  ReadDeadline(tcp::socket& socket, Clock::duration duration)
      : timer_(socket.get_executor(), duration), state_(std::make_shared<State>()) {
    timer_.async_wait([&socket, state = state_](error_code error) {
      if (error || state->is_over) return;  // the read was in time
      state->has_passed = true;
      error_code ignored;
      ignored = socket.cancel(ignored);
    });
  }
  ~ReadDeadline() { state_->is_over = true; }
  ReadDeadline(const ReadDeadline&) = delete;
  ReadDeadline& operator=(const ReadDeadline&) = delete;

  bool has_passed() const { return state_->has_passed; }

 private:
  struct State {
    bool has_passed = false;
    bool is_over = false;
  };
  asio::steady_timer timer_;
  std::shared_ptr<State> state_;
};

// One connection, which answers requests one after the other.
class Connection {
 public:
  struct Shared {
    Api& api;
    const ServerOptions& options;
    int num_connections = 0;
    int num_event_streams = 0;
    std::mt19937_64 ids{std::random_device{}()};
  };

  Connection(tcp::socket socket, Shared& shared) : stream_(std::move(socket)), shared_(shared) {
    ++shared_.num_connections;
  }
  ~Connection() { --shared_.num_connections; }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  Awaitable<void> run() {
    error_code ignored;
    ignored = stream_.socket().set_option(tcp::no_delay(true), ignored);
    while (co_await answer_one()) continue;
    ignored = stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
  }

 private:
  using Parser = http::request_parser<http::string_body>;

  // Returns false if the connection is to be closed.
  Awaitable<bool> answer_one() {
    if (!co_await await_first_byte()) co_return false;
    Parser parser;
    parser.header_limit(kMaxHeaderBytes);
    parser.body_limit(shared_.options.max_body_bytes);
    if (!co_await read(parser, kHeaderTimeout, true)) co_return co_await refuse_reading();
    is_last_ = !parser.keep_alive();
    // Chunks would bring extensions and trailers, which nothing limits, and ways for a proxy and
    // this server to disagree about where a request ends.
    if (!request_.header("transfer-encoding").empty()) {
      is_last_ = true;
      co_return co_await send(
          Api::answer_error(411, "Transfer-Encoding: wanted a body with Content-Length"));
    }
    const std::optional<Response> refusal = shared_.api.refuse(request_);
    if (refusal) {
      is_last_ = is_last_ || !parser.is_done();  // its body is not read
      co_return co_await send(*refusal);
    }
    const bool is_modern = parser.get().version() >= kHttp11;
    if (is_modern && beast::iequals(parser.get()[http::field::expect], "100-continue")) {
      if (!co_await write_all(asio::buffer(kContinue))) co_return false;
    }
    if (!co_await read(parser, kBodyTimeout, false)) co_return co_await refuse_reading();
    request_.body = std::move(parser.get().body());
    shared_.api.set_connections(shared_.num_connections, shared_.num_event_streams);
    const Response response = shared_.api.answer(request_);
    co_return co_await send(response);
  }

  // Reads the head of a request, or all of it. On failure read_error_ says why.
  Awaitable<bool> read(Parser& parser, Clock::duration time, bool is_head) {
    stream_.expires_never();
    const ReadDeadline deadline(stream_.socket(), time);
    if (is_head) {
      std::tie(read_error_, std::ignore) =
          co_await http::async_read_header(stream_, buffer_, parser, kAwait);
    } else {
      std::tie(read_error_, std::ignore) =
          co_await http::async_read(stream_, buffer_, parser, kAwait);
    }
    begin_ = Clock::now();
    if (is_head) request_ = to_request(parser.get());
    if (deadline.has_passed()) read_error_ = beast::error::timeout;
    co_return !read_error_;
  }

  // Between two requests a connection may wait for longer than within one.
  Awaitable<bool> await_first_byte() {
    if (buffer_.size() > 0) co_return true;
    constexpr std::size_t kReadBytes = 4096;
    stream_.expires_after(has_answered_ ? kIdleTimeout : kHeaderTimeout);
    const auto [error, num_bytes] =
        co_await stream_.async_read_some(buffer_.prepare(kReadBytes), kAwait);
    if (error) co_return false;
    buffer_.commit(num_bytes);
    co_return true;
  }

  HttpRequest to_request(const http::request<http::string_body>& message) {
    HttpRequest request;
    request.method = message.method_string();
    request.target = message.target();
    for (const auto& field : message) {
      std::string name(field.name_string());
      std::ranges::transform(name, name.begin(), [](unsigned char letter) {
        return static_cast<char>(std::tolower(letter));
      });
      request.headers.emplace_back(std::move(name), std::string(field.value()));
    }
    request.id = fmt::format("req_{:016x}", shared_.ids());
    return request;
  }

  // Answers a request that cannot be read, and ends the connection.
  Awaitable<bool> refuse_reading() {
    is_last_ = true;
    if (read_error_ == http::error::header_limit) {
      co_return co_await send(
          Api::answer_error(431, fmt::format("headers: wanted at most {} bytes", kMaxHeaderBytes)));
    }
    if (read_error_ == http::error::body_limit) {
      co_return co_await send(Api::answer_error(
          413, fmt::format("body: wanted at most {} bytes", shared_.options.max_body_bytes)));
    }
    if (read_error_ == beast::error::timeout) {
      co_return co_await send(Api::answer_error(408, "the request did not arrive in time"));
    }
    const bool is_gone =
        read_error_ == http::error::end_of_stream || read_error_ == http::error::partial_message;
    const bool is_malformed =
        read_error_.category() == make_error_code(http::error::bad_target).category();
    if (is_gone || !is_malformed) co_return false;
    co_return co_await send(Api::answer_error(
        400, fmt::format("this is no request of HTTP/1.1: {}", read_error_.message())));
  }

  // ---- answers ----

  EmptyResponse make_head(const Response& response) const {
    EmptyResponse head(static_cast<http::status>(response.status), kHttp11);
    for (const auto& [name, value] : response.headers) head.insert(name, value);
    for (const auto& [name, value] : kSecurityHeaders) head.set(name, value);
    head.set("x-request-id", request_.id);
    head.set(http::field::server, "mochi.cpp");
    head.set(http::field::date,
             fmt::format("{:%a, %d %b %Y %H:%M:%S GMT}", fmt::gmtime(std::time(nullptr))));
    head.keep_alive(!is_last_);
    return head;
  }

  void count(const Response& response) {
    const std::chrono::duration<double> passed = Clock::now() - begin_;
    shared_.api.count(request_, response, passed.count());
  }

  Awaitable<bool> send(const Response& response) {
    has_answered_ = true;
    if (response.events && !response.at_end) co_return co_await send_events(response);
    if (response.events) co_return co_await send_awaited(response);
    count(response);
    if (response.file) co_return co_await send_file(response, *response.file);
    EmptyResponse head = make_head(response);
    const bool may_have_body = response.status != 304;
    if (may_have_body) head.content_length(response.body.size());
    if (!co_await write_head(head)) co_return false;
    const bool has_body = request_.method != "HEAD" && may_have_body && !response.body.empty();
    if (has_body && !co_await write_all(asio::buffer(response.body))) co_return false;
    co_return !is_last_;
  }

  Awaitable<bool> send_file(const Response& response, const FilePart& part) {
    const FileDescriptor file(::open(part.path.c_str(), O_RDONLY | O_CLOEXEC));
    EmptyResponse head = make_head(response);
    head.content_length(part.num_bytes);
    if (!co_await write_head(head)) co_return false;
    if (request_.method == "HEAD") co_return !is_last_;
    std::vector<char> block(kFileBlockBytes);
    for (std::uint64_t num_sent = 0; num_sent < part.num_bytes;) {
      const std::size_t wanted = std::min<std::uint64_t>(block.size(), part.num_bytes - num_sent);
      const ssize_t num_read =
          ::pread(file.get(), block.data(), wanted, static_cast<off_t>(part.offset + num_sent));
      if (num_read <= 0) co_return false;  // the client sees that the body is too short
      const auto num_bytes = static_cast<std::size_t>(num_read);
      if (!co_await write_all(asio::buffer(block.data(), num_bytes))) co_return false;
      num_sent += num_bytes;
    }
    co_return !is_last_;
  }

  // The end of the connection is that of the stream.
  Awaitable<bool> send_events(const Response& response) {
    is_last_ = true;
    count(response);
    if (!co_await write_head(make_head(response))) co_return false;
    if (request_.method == "HEAD") co_return false;
    const StreamCount counted(shared_.num_event_streams);
    const std::shared_ptr<Waiter> waiter = watch_client(*response.events);
    std::string text = "retry: 2000\n\n";
    for (;;) {
      text += response.events->take();
      if (!text.empty() && !co_await write_all(asio::buffer(text))) break;
      if (response.events->has_ended() || waiter->is_client_gone) break;
      text.clear();
      if (waiter->is_news) {
        waiter->is_news = false;
        continue;
      }
      waiter->timer.expires_after(kKeepAlivePeriod);
      const auto [error] = co_await waiter->timer.async_wait(kAwait);
      if (!error) text = ": keep-alive\n\n";
    }
    end_waiting();
    co_return false;
  }

  // Answers when the events have ended.
  Awaitable<bool> send_awaited(const Response& response) {
    const std::shared_ptr<Waiter> waiter = watch_client(*response.events);
    for (;;) {
      waiter->is_news = false;
      response.events->take();
      if (response.events->has_ended() || waiter->is_client_gone) break;
      if (waiter->is_news) continue;
      waiter->timer.expires_after(kKeepAlivePeriod);
      static_cast<void>(co_await waiter->timer.async_wait(kAwait));
    }
    end_waiting();
    if (!response.events->has_ended()) {
      response.on_abandoned();
      co_return false;
    }
    Response answer = response.at_end();
    answer.route = response.route;
    co_return co_await send(answer);
  }

  struct Waiter {
    explicit Waiter(const asio::any_io_executor& executor) : timer(executor) {}
    asio::steady_timer timer;
    bool is_news = false;
    bool is_client_gone = false;
  };

  class StreamCount {
   public:
    explicit StreamCount(int& count) : count_(count) { ++count_; }
    ~StreamCount() { --count_; }
    StreamCount(const StreamCount&) = delete;
    StreamCount& operator=(const StreamCount&) = delete;

   private:
    int& count_;
  };

  // The waiter's timer ends early when the video has news, or when the client has left.
  std::shared_ptr<Waiter> watch_client(EventStream& events) {
    stream_.expires_never();
    auto waiter = std::make_shared<Waiter>(stream_.get_executor());
    events.subscribe([waiter] {
      waiter->is_news = true;
      waiter->timer.cancel();
    });
    stream_.socket().async_wait(tcp::socket::wait_read,
                                [waiter, fd = stream_.socket().native_handle()](error_code error) {
                                  char byte = 0;
                                  if (error || ::recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 0)
                                    return;
                                  waiter->is_client_gone = true;
                                  waiter->timer.cancel();
                                });
    return waiter;
  }

  void end_waiting() {
    error_code ignored;
    ignored = stream_.socket().cancel(ignored);
  }

  Awaitable<bool> write_head(const EmptyResponse& head) {
    http::response_serializer<http::empty_body> serializer(head);
    stream_.expires_after(kWriteTimeout);
    const auto [error, num_bytes] = co_await http::async_write_header(stream_, serializer, kAwait);
    static_cast<void>(num_bytes);
    co_return !error;
  }

  Awaitable<bool> write_all(asio::const_buffer bytes) {
    stream_.expires_after(kWriteTimeout);
    const auto [error, num_bytes] = co_await asio::async_write(stream_, bytes, kAwait);
    static_cast<void>(num_bytes);
    stream_.expires_never();
    co_return !error;
  }

  static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

  beast::tcp_stream stream_;
  beast::flat_buffer buffer_{kMaxBufferBytes};
  Shared& shared_;
  HttpRequest request_;
  error_code read_error_;
  Clock::time_point begin_;
  bool has_answered_ = false;
  bool is_last_ = false;  // the connection ends after this answer
};

}  // namespace

struct HttpServer::Impl {
  explicit Impl(const ServerOptions& given) : options(given) {}

  void listen();
  Awaitable<void> accept_all();
  Awaitable<void> tick_until_end(const std::function<void()>& tick,
                                 const std::function<bool()>& may_end);
  void wait_for(int descriptor);

  struct Watched {
    explicit Watched(asio::io_context& io, int fd) : descriptor(io, fd) {}
    asio::posix::stream_descriptor descriptor;
    std::function<void()> on_readable;
  };

  const ServerOptions& options;
  // Destroyed by close(), before what its coroutines refer to.
  std::unique_ptr<asio::io_context> io = std::make_unique<asio::io_context>(1);
  std::unique_ptr<tcp::acceptor> acceptor;
  std::map<int, std::shared_ptr<Watched>> watched;
  std::unique_ptr<Connection::Shared> shared;
};

void HttpServer::Impl::listen() {
  error_code error;
  const auto check = [this](error_code problem) {
    if (problem) fail("cannot listen on {}:{}: {}", options.host, options.port, problem.message());
  };
  tcp::resolver resolver(*io);
  const auto found =
      resolver.resolve(options.host, std::to_string(options.port), tcp::resolver::passive, error);
  check(error);
  const tcp::endpoint endpoint = found.begin()->endpoint();
  acceptor = std::make_unique<tcp::acceptor>(*io);
  check(acceptor->open(endpoint.protocol(), error));
  check(acceptor->set_option(tcp::acceptor::reuse_address(true), error));
  check(acceptor->bind(endpoint, error));
  check(acceptor->listen(asio::socket_base::max_listen_connections, error));
}

Awaitable<void> HttpServer::Impl::accept_all() {
  for (;;) {
    auto [error, socket] = co_await acceptor->async_accept(kAwait);
    if (error == asio::error::operation_aborted) co_return;
    if (error) {  // no descriptors are left, perhaps
      asio::steady_timer timer(*io, kAcceptRetry);
      static_cast<void>(co_await timer.async_wait(kAwait));
      continue;
    }
    if (shared->num_connections >= options.max_connections) {
      static constexpr std::string_view kBody =
          R"({"error":{"message":"too many connections","type":"server_error","param":null,)"
          R"("code":"overloaded"}})";
      static const std::string kBusy = fmt::format(
          "HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\n"
          "content-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
          kBody.size(), kBody);
      error_code ignored;
      ignored = socket.non_blocking(true, ignored);
      static_cast<void>(socket.write_some(asio::buffer(kBusy), ignored));
      continue;
    }
    auto connection = std::make_shared<Connection>(std::move(socket), *shared);
    asio::co_spawn(
        *io, [connection]() -> Awaitable<void> { co_await connection->run(); }, asio::detached);
  }
}

Awaitable<void> HttpServer::Impl::tick_until_end(const std::function<void()>& tick,
                                                 const std::function<bool()>& may_end) {
  constexpr int kLooksPerTick = 10;
  asio::steady_timer timer(*io);
  for (int num_looks = 1; !may_end(); ++num_looks) {
    timer.expires_after(milliseconds(1000 / kLooksPerTick));
    const auto [error] = co_await timer.async_wait(kAwait);
    if (error) co_return;
    if (num_looks % kLooksPerTick == 0) tick();
  }
  io->stop();
}

void HttpServer::Impl::wait_for(int descriptor) {
  const std::shared_ptr<Watched> it = watched.at(descriptor);
  it->descriptor.async_wait(asio::posix::stream_descriptor::wait_read,
                            [this, it, descriptor](error_code error) {
                              if (error) return;
                              it->on_readable();
                              const auto found = watched.find(descriptor);
                              if (found != watched.end() && found->second == it) {
                                wait_for(descriptor);
                              }
                            });
}

HttpServer::HttpServer(const ServerOptions& options) : impl_(std::make_unique<Impl>(options)) {
  impl_->listen();
}

HttpServer::~HttpServer() { close(); }

std::string HttpServer::address() const {
  const tcp::endpoint endpoint = impl_->acceptor->local_endpoint();
  const std::string host = impl_->options.host;
  const bool is_ipv6 = host.find(':') != std::string::npos;
  return fmt::format("http://{}:{}/", is_ipv6 ? "[" + host + "]" : host, endpoint.port());
}

void HttpServer::run(Api& api, const std::function<void()>& tick,
                     const std::function<bool()>& may_end) {
  impl_->shared = std::make_unique<Connection::Shared>(
      Connection::Shared{.api = api, .options = impl_->options});
  asio::co_spawn(*impl_->io, impl_->accept_all(), asio::detached);
  asio::co_spawn(*impl_->io, impl_->tick_until_end(tick, may_end), asio::detached);
  impl_->io->run();
}

void HttpServer::close() {
  for (auto& [fd, it] : impl_->watched) it->descriptor.release();
  impl_->watched.clear();
  impl_->acceptor.reset();
  impl_->io.reset();
}

void HttpServer::watch(int descriptor, std::function<void()> on_readable) {
  auto it = std::make_shared<Impl::Watched>(*impl_->io, descriptor);
  it->on_readable = std::move(on_readable);
  impl_->watched[descriptor] = it;
  impl_->wait_for(descriptor);
}

void HttpServer::unwatch(int descriptor) {
  const auto found = impl_->watched.find(descriptor);
  if (found == impl_->watched.end()) return;
  found->second->descriptor.release();
  impl_->watched.erase(found);
}

}  // namespace mochi::server
