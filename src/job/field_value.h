// Values of request fields as text (flags, forms) and as JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "io/json.h"
#include "job/request.h"

namespace mochi::job {

// Sets one field from text. Throws InvalidRequest naming the field.
void set_from_text(Request& request, std::string_view field, const std::string& text);

// Reads the fields that `reader` has; the caller's own keys stay for it to read. A file that the
// JSON describes with its fingerprint must still be the same. Throws Error naming file and key.
Request read_request(JsonReader& reader);

// Reads only the fields that concern playing the video: fps.
Request read_playback(JsonReader& reader);

// Writes one field's value, if it has one, under the field's name.
void write_field(nlohmann::ordered_json& json, const Request& request, std::string_view field);

// All fields that decide the latents, without those that are overruled. Files are described as
// describe_file() does.
nlohmann::ordered_json describe_request(const Request& request);

// {path (absolute), size_bytes, fingerprint}. Throws Error when the path is not UTF-8, which JSON
// cannot hold.
nlohmann::ordered_json describe_file(const std::filesystem::path& path);

// The path of such a record. Throws Error when the file has changed or no longer exists.
std::filesystem::path read_file_record(JsonReader& record);

// The path as JSON holds it. Throws Error when it is not UTF-8.
std::string path_text(const std::filesystem::path& path);

}  // namespace mochi::job
