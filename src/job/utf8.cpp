#include "job/utf8.h"

#include <nlohmann/json.hpp>

namespace mochi::job {

bool is_utf8(std::string_view text) {
  try {
    [[maybe_unused]] const std::string dumped = nlohmann::json(text).dump();
    return true;
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

}  // namespace mochi::job
