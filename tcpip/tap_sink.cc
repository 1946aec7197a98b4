// The sinks that tap.h declares: text, hexadecimal, pcapng. The last writes the
// format of draft-ietf-opsawg-pcapng (blocks in this machine's byte order) with
// packets of RFC 791, RFC 8200 and RFC 9293.
//
// Threads: each sink has what it needs for itself; one thread at a time calls
// it.
#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <map>
#include <string>
#include <utility>

#include "tcpip/base/descriptor.h"
#include "tcpip/error.h"
#include "tcpip/tap.h"
#include "tcpip/unique_fd.h"

namespace tcpip {
namespace {

bool is_fifo(const std::string& path) {
  struct ::stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISFIFO(status.st_mode);
}

// A FIFO that nobody reads would keep open() waiting: that is an error.
UniqueFd open_to_append(const std::string& path) {
  const bool may_wait = is_fifo(path);
  UniqueFd fd = internal::adopt_descriptor(::open(
      path.c_str(),
      O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (may_wait ? O_NONBLOCK : 0),
      0666));
  if (!fd) {
    const int error = errno;
    const bool is_unread = may_wait && error == ENXIO;
    throw_os_error(error, "open", path, is_unread ? "nobody reads it" : "");
  }
  if (may_wait) ::fcntl(fd.get(), F_SETFL, O_WRONLY | O_APPEND);
  return fd;
}

class File {
 public:
  explicit File(const std::string& path)
      : path_(path), fd_(open_to_append(path)) {}

  // All of it or, if the file allows that, nothing.
  void append(std::string_view data) {
    const ::off_t begin = ::lseek(fd_.get(), 0, SEEK_END);
    for (std::size_t written = 0; written < data.size();) {
      const ::ssize_t n =
          ::write(fd_.get(), data.data() + written, data.size() - written);
      if (n >= 0) {
        written += static_cast<std::size_t>(n);
      } else if (errno != EINTR) {
        const int error = errno;
        if (begin >= 0 && ::ftruncate(fd_.get(), begin) != 0) {
          // Nothing can be done: the end of the file is a part of a record.
        }
        throw_os_error(error, "write", path_);
      }
    }
  }

 private:
  const std::string path_;
  const UniqueFd fd_;
};

// --- Text ---

std::string head_of(const TapRecord& record) {
  const auto time = std::chrono::floor<std::chrono::microseconds>(record.time);
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  return fmt::format("{:%Y-%m-%d %H:%M:%S}.{:06}Z {}#{} ",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(seconds)),
                     (time - seconds).count(), record.name, record.connection);
}

char arrow_of(const TapRecord& record) {
  return record.event == TapEvent::kReceived ? '<' : '>';
}

// What both text forms write of the beginning and the end.
std::string event_line(const TapRecord& record) {
  const std::string_view what = record.event == TapEvent::kAccepted ? "accepted"
                                : record.event == TapEvent::kConnected
                                    ? "connected to"
                                    : "ended";
  std::string line = head_of(record).append(what);
  if (record.event != TapEvent::kEnded) {
    line.append(" ").append(record.peer.to_string());
  }
  return line.append("\n");
}

bool is_event(const TapRecord& record) {
  return record.event != TapEvent::kReceived && record.event != TapEvent::kSent;
}

std::string skipped_line(const TapRecord& record) {
  if (record.skipped == 0) return {};
  return fmt::format("{}{} ({} bytes are not shown)\n", head_of(record),
                     arrow_of(record), record.skipped);
}

bool is_printable(char c) { return c >= ' ' && c <= '~'; }

void append_escaped(std::string& to, std::string_view bytes) {
  for (const char c : bytes) {
    switch (c) {
      case '\r':
        to += "\\r";
        break;
      case '\n':
        to += "\\n";
        break;
      case '\t':
        to += "\\t";
        break;
      case '\\':
        to += "\\\\";
        break;
      default:
        if (is_printable(c)) {
          to += c;
        } else {
          fmt::format_to(std::back_inserter(to), "\\x{:02x}",
                         static_cast<unsigned char>(c));
        }
    }
  }
}

std::string text_lines(const TapRecord& record) {
  if (is_event(record)) return event_line(record);
  const std::string head = head_of(record) + arrow_of(record) + ' ';
  std::string lines = skipped_line(record);
  for (std::string_view rest = record.bytes; !rest.empty();) {
    const std::size_t size = std::min(rest.find('\n'), rest.size() - 1) + 1;
    lines += head;
    append_escaped(lines, rest.substr(0, size));
    lines += '\n';
    rest.remove_prefix(size);
  }
  return lines;
}

std::string hex_lines(const TapRecord& record) {
  constexpr std::size_t kRow = 16;
  if (is_event(record)) return event_line(record);
  std::string lines = skipped_line(record);
  const auto out = std::back_inserter(lines);
  fmt::format_to(out, "{}{} {} bytes\n", head_of(record), arrow_of(record),
                 record.bytes.size());
  for (std::size_t at = 0; at < record.bytes.size(); at += kRow) {
    const std::string_view row = record.bytes.substr(at, kRow);
    fmt::format_to(out, "{:08x} ", record.position + at);
    for (std::size_t i = 0; i < kRow; ++i) {
      if (i < row.size()) {
        fmt::format_to(out, " {:02x}", static_cast<unsigned char>(row[i]));
      } else {
        lines += "   ";
      }
    }
    lines += "  |";
    for (const char c : row) lines += is_printable(c) ? c : '.';
    lines += "|\n";
  }
  return lines;
}

// --- pcapng ---

// Appends numbers: blocks are in this machine's byte order, packets in the
// network's.
class Packed {
 public:
  template <class Number>
  Packed& native(Number number) {
    std::array<char, sizeof(Number)> raw;
    std::memcpy(raw.data(), &number, sizeof number);
    data_.append(raw.data(), raw.size());
    return *this;
  }
  template <class Number>
  Packed& network(Number number) {
    for (std::size_t i = sizeof(Number); i-- > 0;) {
      data_ += static_cast<char>(static_cast<std::uint64_t>(number) >> (8 * i));
    }
    return *this;
  }
  Packed& raw(std::string_view bytes) {
    data_ += bytes;
    return *this;
  }
  Packed& pad_to(std::size_t multiple) {
    data_.append((multiple - data_.size() % multiple) % multiple, '\0');
    return *this;
  }
  Packed& option(std::uint16_t code, std::string_view value) {
    return native(code)
        .native(static_cast<std::uint16_t>(value.size()))
        .raw(value)
        .pad_to(4);
  }
  std::string& data() { return data_; }
  std::size_t size() const { return data_.size(); }

 private:
  std::string data_;
};

std::string block(std::uint32_t type, std::string_view body) {
  const auto size = static_cast<std::uint32_t>(body.size() + 12);
  Packed bytes;
  bytes.native(type).native(size).raw(body).native(size);
  return std::move(bytes.data());
}

constexpr std::uint16_t kOptionEnd = 0;
constexpr std::uint16_t kOptionComment = 1;
constexpr std::uint16_t kLinkTypeRaw = 101;  // a packet begins with IP

// A section header and the one interface of the section.
std::string section() {
  constexpr std::uint16_t kUserApplication = 4;
  constexpr std::uint16_t kTimeResolution = 9;
  Packed header;
  header.native(std::uint32_t{0x1A2B3C4D})
      .native(std::uint16_t{1})
      .native(std::uint16_t{0})
      .native(std::int64_t{-1})  // its size is not known
      .option(kUserApplication, "tcpip")
      .option(kOptionEnd, "");
  Packed interface;
  interface.native(kLinkTypeRaw)
      .native(std::uint16_t{0})
      .native(std::uint32_t{0})         // packets are never cut
      .option(kTimeResolution, "\x09")  // nanoseconds
      .option(kOptionEnd, "");
  return block(0x0A0D0D0A, header.data()) + block(1, interface.data());
}

// RFC 1071.
std::uint16_t checksum(std::string_view bytes) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto byte = static_cast<unsigned char>(bytes[i]);
    sum += i % 2 == 0 ? std::uint64_t{byte} << 8 : byte;
  }
  while (sum >> 16 != 0) sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

// One end of a made-up connection.
struct End {
  std::string host;  // 4 or 16 bytes
  std::uint16_t port = 0;
  std::uint32_t next = 0;  // the sequence number of its next byte
};

End end_of(const Address& address) {
  End end;
  end.port = address.port();
  if (address.family() == AddressFamily::kIpv4) {
    ::sockaddr_in in{};
    std::memcpy(&in, address.data(), sizeof in);
    end.host.assign(reinterpret_cast<const char*>(&in.sin_addr), 4);
  } else if (address.family() == AddressFamily::kIpv6) {
    ::sockaddr_in6 in{};
    std::memcpy(&in, address.data(), sizeof in);
    end.host.assign(reinterpret_cast<const char*>(&in.sin6_addr), 16);
  }
  return end;
}

// For a connection without internet addresses.
End made_up_end(std::uint64_t id, std::uint8_t host) {
  return {{127, 0, 0, static_cast<char>(host)},
          static_cast<std::uint16_t>(1024 + id % 60000),
          0};
}

enum TcpFlags : std::uint16_t { kFin = 1, kSyn = 2, kPush = 8, kAck = 16 };

std::string packet(const End& from, const End& to, unsigned flags,
                   std::string_view payload) {
  constexpr std::uint8_t kTcp = 6;
  constexpr std::uint8_t kTimeToLive = 64;
  const std::uint32_t acknowledged = (flags & kAck) != 0 ? to.next : 0;
  Packed tcp;
  tcp.network(from.port)
      .network(to.port)
      .network(from.next)
      .network(acknowledged)
      .network(static_cast<std::uint16_t>(0x5000 | flags))
      .network(std::uint16_t{0xFFFF})  // the window
      .network(std::uint16_t{0})
      .network(std::uint16_t{0})
      .raw(payload);
  Packed pseudo;
  pseudo.raw(from.host).raw(to.host);
  if (from.host.size() == 4) {
    pseudo.network(std::uint16_t{kTcp})
        .network(static_cast<std::uint16_t>(tcp.size()));
  } else {
    pseudo.network(static_cast<std::uint32_t>(tcp.size()))
        .network(std::uint32_t{kTcp});
  }
  const std::uint16_t tcp_sum = checksum(pseudo.raw(tcp.data()).data());
  tcp.data()[16] = static_cast<char>(tcp_sum >> 8);
  tcp.data()[17] = static_cast<char>(tcp_sum);

  Packed ip;
  if (from.host.size() == 4) {
    ip.network(std::uint16_t{0x4500})
        .network(static_cast<std::uint16_t>(20 + tcp.size()))
        .network(std::uint32_t{0x4000})  // not to be fragmented
        .network(kTimeToLive)
        .network(kTcp)
        .network(std::uint16_t{0})
        .raw(from.host)
        .raw(to.host);
    const std::uint16_t ip_sum = checksum(ip.data());
    ip.data()[10] = static_cast<char>(ip_sum >> 8);
    ip.data()[11] = static_cast<char>(ip_sum);
  } else {
    ip.network(std::uint32_t{0x60000000})
        .network(static_cast<std::uint16_t>(tcp.size()))
        .network(kTcp)
        .network(kTimeToLive)
        .raw(from.host)
        .raw(to.host);
  }
  return std::move(ip.raw(tcp.data()).data());
}

class Pcapng {
 public:
  explicit Pcapng(const std::string& path) : file_(path) {
    file_.append(section());
  }

  void write(const TapRecord& record) {
    blocks_.clear();
    time_ = static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(
            record.time.time_since_epoch())
            .count());
    auto place = connections_.find(record.id);
    if (place == connections_.end()) {
      // Its beginning may not have been shown; and a read that was under way at
      // the end may receive after that.
      place = connections_.emplace(record.id, begin(record)).first;
    }
    Ends& ends = place->second;
    switch (record.event) {
      case TapEvent::kAccepted:
        shake_hands(ends, ends.peer, ends.local, record);
        break;
      case TapEvent::kConnected:
        shake_hands(ends, ends.local, ends.peer, record);
        break;
      case TapEvent::kReceived:
        send(ends, ends.peer, ends.local, record);
        break;
      case TapEvent::kSent:
        send(ends, ends.local, ends.peer, record);
        break;
      case TapEvent::kEnded:
        add(packet(ends.local, ends.peer, kFin | kAck, {}));
        ends.local.next += 1;
        add(packet(ends.peer, ends.local, kFin | kAck, {}));
        connections_.erase(place);
        break;
    }
    // Of those whose end was not shown.
    if (connections_.size() > kMostConnections) {
      connections_.erase(connections_.begin());
    }
    file_.append(blocks_);
  }

 private:
  static constexpr std::size_t kMostConnections = 1000;

  struct Ends {
    End local;
    End peer;
    std::uint32_t first = 0;  // the sequence number of the first bytes
  };

  // Each connection has a sequence number of its own, as in TCP: so one with
  // the ports of an earlier one is another stream for Wireshark.
  Ends begin(const TapRecord& record) const {
    Ends ends{end_of(record.local), end_of(record.peer)};
    if (ends.local.host.empty() ||
        ends.local.host.size() != ends.peer.host.size()) {
      ends = {made_up_end(record.id, 1), made_up_end(record.id, 2)};
    }
    constexpr std::uint64_t kSpread = 0x9E3779B97F4A7C15;
    const std::uint64_t mixed = (time_ + record.id) * kSpread;
    ends.first = static_cast<std::uint32_t>(mixed >> 32);
    ends.local.next = ends.peer.next = ends.first;
    return ends;
  }

  void shake_hands(const Ends& ends, End& client, End& server,
                   const TapRecord& record) {
    std::string comment =
        fmt::format("{}#{}: {} - {}", record.name, record.connection,
                    record.local.to_string(), record.peer.to_string());
    comment.resize(std::min<std::size_t>(comment.size(), 1000));
    client.next = server.next = ends.first - 1;
    add(packet(client, server, kSyn, {}), comment);
    client.next += 1;
    add(packet(server, client, kSyn | kAck, {}));
    server.next += 1;
    add(packet(client, server, kAck, {}));
  }

  // What was skipped is missing in the sequence numbers, too.
  void send(const Ends& ends, End& from, const End& to,
            const TapRecord& record) {
    constexpr std::size_t kMost = 65'000;
    from.next = ends.first + static_cast<std::uint32_t>(record.position);
    for (std::string_view rest = record.bytes; !rest.empty();) {
      const std::string_view payload = rest.substr(0, kMost);
      add(packet(from, to, kPush | kAck, payload));
      from.next += static_cast<std::uint32_t>(payload.size());
      rest.remove_prefix(payload.size());
    }
  }

  // An Enhanced Packet Block.
  void add(const std::string& packet, const std::string& comment = {}) {
    Packed body;
    const auto size = static_cast<std::uint32_t>(packet.size());
    body.native(std::uint32_t{0})
        .native(static_cast<std::uint32_t>(time_ >> 32))
        .native(static_cast<std::uint32_t>(time_))
        .native(size)
        .native(size)
        .raw(packet)
        .pad_to(4);
    if (!comment.empty()) {
      body.option(kOptionComment, comment).option(kOptionEnd, "");
    }
    blocks_ += block(6, body.data());
  }

  File file_;
  std::map<std::uint64_t, Ends> connections_;  // by TapRecord::id
  // Of the current record.
  std::uint64_t time_ = 0;
  std::string blocks_;
};

}  // namespace

Tap::Sink text_sink(const std::string& path) {
  return [file = std::make_shared<File>(path)](const TapRecord& record) {
    file->append(text_lines(record));
  };
}

Tap::Sink hex_sink(const std::string& path) {
  return [file = std::make_shared<File>(path)](const TapRecord& record) {
    file->append(hex_lines(record));
  };
}

Tap::Sink pcapng_sink(const std::string& path) {
  return [writer = std::make_shared<Pcapng>(path)](const TapRecord& record) {
    writer->write(record);
  };
}

}  // namespace tcpip
