#include "job/request.h"

#include <algorithm>

namespace mochi::job {
namespace {

void clear_field(Request& request, std::string_view name) {
  visit_request(request, [name](const Field& field, auto& value, auto /*target*/) {
    if (field.name == name) value.reset();
  });
}

// A switch that is off decides nothing about other fields.
template <typename T>
bool decides(const std::optional<T>& value) {
  if constexpr (std::is_same_v<T, bool>) return value.value_or(false);
  return value.has_value();
}

}  // namespace

Request overlay(Request lower, const Request& upper) {
  visit_request(upper, [&lower](const Field& field, const auto& value, auto /*target*/) {
    if (!decides(value)) return;
    clear_field(lower, field.overruled_by);
    for (const std::string_view displaced : field.displaces) clear_field(lower, displaced);
  });
  visit_request(upper, [&lower](const Field& field, const auto& given, auto /*target*/) {
    if (!given) return;
    visit_request(lower, [&](const Field& other, auto& value, auto /*same*/) {
      if constexpr (std::is_same_v<decltype(value), std::remove_cvref_t<decltype(given)>&>) {
        if (other.name == field.name) value = given;
      }
    });
  });
  return lower;
}

std::vector<std::string> given_fields(const Request& request) {
  std::vector<std::string> names;
  visit_request(request, [&names](const Field& field, const auto& value, auto /*target*/) {
    if (value) names.emplace_back(field.name);
  });
  return names;
}

bool is_given(const Request& request, std::string_view field) {
  const std::vector<std::string> given = given_fields(request);
  return std::ranges::find(given, field) != given.end();
}

bool changes_latents(const Request& request) {
  bool changes = false;
  visit_request(request, [&changes](const Field& field, const auto& value, auto /*target*/) {
    changes = changes || (value && field.offer != Offer::kPlayback);
  });
  return changes;
}

std::vector<Overruled> find_overruled(const Request& request) {
  std::vector<Overruled> found;
  visit_request(request, [&](const Field& field, const auto& value, auto /*target*/) {
    if (!value || field.overruled_by.empty() || !is_given(request, field.overruled_by)) return;
    found.push_back({std::string(field.name), std::string(field.overruled_by)});
  });
  return found;
}

}  // namespace mochi::job
