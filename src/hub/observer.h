// The caller of a download: it sees the progress and can end the download.
#pragma once

#include <cstdint>
#include <string_view>

namespace mochi::hub {

enum class Activity : std::uint8_t {
  kChecking,  // a file that exists already is compared with the hub's checksum
  kFetching,
  kVerifying,  // the last bytes of a fetched file are hashed
};

struct Progress {
  Activity activity = Activity::kFetching;
  std::string_view file;  // below the folder
  std::uint64_t file_done = 0;
  std::uint64_t file_size = 0;
  std::uint64_t all_done = 0;
  std::uint64_t all_size = 0;
};

class Observer {
 public:
  virtual ~Observer() = default;

  // Called about ten times a second.
  virtual void on_progress(const Progress& progress) = 0;
  // A file has its final name. `num_fetched` bytes of it were fetched in this run.
  virtual void on_complete(std::string_view file, std::uint64_t num_fetched) = 0;
  // One line about a wait or about a file that is fetched again.
  virtual void on_note(std::string_view text) = 0;
  // Returns true if the download should end with Cancelled.
  virtual bool should_stop() = 0;
};

}  // namespace mochi::hub
