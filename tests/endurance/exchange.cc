#include "tests/endurance/exchange.h"

#include <array>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>
#include <system_error>

#include "tcpip/byte_order.h"
#include "tcpip/constants.h"
#include "tcpip/json.h"
#include "tcpip/wire_type.h"

namespace tcpip_tests {
namespace {

constexpr std::uint64_t kMagic = 0x736f616b'736f616b;
constexpr std::size_t kStructData = 40;

struct Frame {
  tcpip::BigEndian<std::uint64_t> magic{};
  tcpip::BigEndian<std::uint64_t> nonce{};
  tcpip::BigEndian<std::uint64_t> number{};
  std::array<char, kStructData> data{};
};

std::uint64_t mixed(std::uint64_t value) {
  value ^= value >> 33;
  value *= 0xff51afd7ed558ccdU;
  value ^= value >> 33;
  value *= 0xc4ceb9fe1a85ec53U;
  return value ^ (value >> 33);
}

// Mostly short, now and then some tens of kilobytes.
std::size_t size_of(Format format, std::uint64_t chance) {
  if (format == Format::kStruct) return kStructData;
  return chance % 50 == 0 ? chance % 40'000 : chance % 300;
}

std::string data_of(Format format, std::uint64_t nonce, std::uint64_t number) {
  std::uint64_t state = mixed(nonce + 31 * number);
  std::string data(size_of(format, state), ' ');
  for (char& c : data) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    c = static_cast<char>('a' + (state >> 40) % 26);
  }
  return data;
}

const Message& checked(Format format, const Message& message) {
  if (message.data != data_of(format, message.nonce, message.number)) {
    throw CorruptError("message " + std::to_string(message.number) + " of " +
                       std::to_string(message.nonce) + " has other bytes");
  }
  return message;
}

std::uint64_t take_number(std::string_view& text) {
  std::uint64_t value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data() + text.size() || *end != ' ') {
    throw CorruptError("a message without a number: " + std::string(text));
  }
  text.remove_prefix(static_cast<std::size_t>(end - text.data()) + 1);
  return value;
}

Message json_message(const nlohmann::json& json) {
  if (!json.is_object()) throw GarbageError();
  return checked(Format::kJson, {json.at("nonce"), json.at("number"),
                                 json.at("data").get<std::string>()});
}

nlohmann::json json_of(const Message& message) {
  return {{"nonce", message.nonce},
          {"number", message.number},
          {"data", message.data}};
}

Message struct_message(const Frame& frame) {
  if (frame.magic != kMagic) throw GarbageError();
  return checked(Format::kStruct,
                 {frame.nonce, frame.number,
                  std::string(frame.data.begin(), frame.data.end())});
}

Frame frame_of(const Message& message) {
  Frame frame;
  frame.magic = kMagic;
  frame.nonce = message.nonce;
  frame.number = message.number;
  std::memcpy(frame.data.data(), message.data.data(), kStructData);
  return frame;
}

std::string text_of(const Message& message) {
  return "M " + std::to_string(message.nonce) + " " +
         std::to_string(message.number) + " " + message.data;
}

}  // namespace

Message message_of(Format format, std::uint64_t nonce, std::uint64_t number) {
  return {nonce, number, data_of(format, nonce, number)};
}

std::string on_the_wire(Format format, const Message& message) {
  const std::string end(tcpip::kDefaultTerminator);
  switch (format) {
    case Format::kText:
      return text_of(message) + end;
    case Format::kJson:
      return tcpip::format_json(json_of(message)) + end;
    case Format::kStruct:
      break;
  }
  const Frame frame = frame_of(message);
  return std::string(reinterpret_cast<const char*>(&frame), sizeof frame);
}

std::string garbage(Format format, std::size_t size) {
  std::string bytes(size, '#');
  if (format == Format::kStruct) return bytes;
  for (std::size_t at = 100; at + 1 < size; at += 100) {
    bytes[at] = '\r';
    bytes[at + 1] = '\n';
  }
  return bytes;
}

Message text_message(std::string_view text) {
  if (text.starts_with('#')) throw GarbageError();
  if (!text.starts_with("M ")) {
    throw CorruptError("no beginning of a message: " +
                       std::string(text.substr(0, 40)));
  }
  text.remove_prefix(2);
  const std::uint64_t nonce = take_number(text);
  const std::uint64_t number = take_number(text);
  return checked(Format::kText, {nonce, number, std::string(text)});
}

Message read_message(const tcpip::ReadWriter& connection, Format format,
                     const tcpip::Wait& wait) {
  switch (format) {
    case Format::kText:
      return text_message(connection.read_str(wait));
    case Format::kJson:
      return json_message(tcpip::read_json(connection, wait));
    case Format::kStruct:
      break;
  }
  Frame frame;
  connection.read_into(frame, wait);
  return struct_message(frame);
}

std::optional<Message> try_read_message(const tcpip::ReadWriter& connection,
                                        Format format) {
  switch (format) {
    case Format::kText:
      if (const auto text = connection.try_read_str()) {
        return text_message(*text);
      }
      return std::nullopt;
    case Format::kJson:
      if (const auto json = tcpip::try_read_json(connection)) {
        return json_message(*json);
      }
      return std::nullopt;
    case Format::kStruct:
      break;
  }
  Frame frame;
  if (!connection.try_read_into(frame)) return std::nullopt;
  return struct_message(frame);
}

void write_message(const tcpip::ReadWriter& connection, Format format,
                   const Message& message, const tcpip::Wait& wait) {
  switch (format) {
    case Format::kText:
      return connection.write_str(text_of(message), wait);
    case Format::kJson:
      return tcpip::write_json(connection, json_of(message), wait);
    case Format::kStruct:
      return connection.write_from(frame_of(message), wait);
  }
}

std::optional<Message> MessageSplitter::next() {
  if (format_ == Format::kStruct) {
    if (bytes_.size() < sizeof(Frame)) return std::nullopt;
    Frame frame;
    std::memcpy(&frame, bytes_.data(), sizeof frame);
    bytes_.erase(0, sizeof frame);
    return struct_message(frame);
  }
  for (;;) {
    const std::size_t end = bytes_.find(tcpip::kDefaultTerminator);
    if (end == std::string::npos) return std::nullopt;
    const std::string text = bytes_.substr(0, end);
    bytes_.erase(0, end + tcpip::kDefaultTerminator.size());
    if (text == tcpip::kHeartbeat) continue;
    if (format_ == Format::kText) return text_message(text);
    return json_message(tcpip::parse_json(text));
  }
}

}  // namespace tcpip_tests
