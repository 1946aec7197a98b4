// Frames: a header, then the body that the header names. Reads one after the
// other and calls the handler of each.
//
//   struct Header {
//     tcpip::BigEndian<std::uint16_t> id{};
//     tcpip::BigEndian<std::uint32_t> length{};  // of the body, in bytes
//   };
//
//   tcpip::FrameDispatcher<Header> frames(
//       {.id = &Header::id, .body_length = &Header::length});
//   frames.on<Position>(kPosition, [&](const tcpip::Connection& peer,
//                                      const Header& header,
//                                      const Position& position) { ... });
//   frames.on(kStop, [&](const tcpip::Connection& peer,
//                        const Header& header) { ... });  // without a body
//   while (running) frames.read_one(connection, stop);
//
// Headers and bodies are structs as wire_type.h allows them. A handler must not
// trust their values: the peer may send any.
//
// A frame that nobody handles is counted, logged at a bounded rate, and skipped
// by the length that its header tells. If headers tell no length, all bytes
// that have come are dropped, in the hope that the next frame begins behind
// them. Only protocols in which the peer waits for an answer justify that hope.
//
// Threads: one thread at a time calls on() and read_one(); counts() may be
// called from any thread at any time. No other thread may read the connection.
#ifndef TCPIP_FRAME_DISPATCHER_H_
#define TCPIP_FRAME_DISPATCHER_H_

#include "tcpip/version.h"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "tcpip/base_client_or_server.h"
#include "tcpip/byte_order.h"
#include "tcpip/connection.h"
#include "tcpip/constants.h"
#include "tcpip/error.h"
#include "tcpip/log.h"
#include "tcpip/wait.h"
#include "tcpip/wire_type.h"

namespace tcpip {

// What a FrameDispatcher has read so far, on all connections.
struct TCPIP_EXPORT FrameCounts {
  std::uint64_t frames = 0;         // handlers called
  std::uint64_t unknown = 0;        // frames without a handler
  std::uint64_t wrong_length = 0;   // bodies of another length than the struct
  std::uint64_t flushed_bytes = 0;  // dropped behind unknown headers that tell
                                    // no length

  bool operator==(const FrameCounts&) const = default;
};

namespace internal {

// The number that a member of a header stands for; -1 is the same number in
// every type.
template <class T>
std::uint64_t frame_number(const T& value) {
  if constexpr (std::is_enum_v<T>) {
    return frame_number(static_cast<std::underlying_type_t<T>>(value));
  } else if constexpr (std::is_integral_v<T>) {
    return static_cast<std::uint64_t>(value);
  } else {
    return frame_number(value.value());  // BigEndian, LittleEndian
  }
}

}  // namespace internal

// How a number is taken out of a header: a member, or a function of the header.
// It is an integer or an enum, also in a BigEndian or LittleEndian.
template <class Header>
class TCPIP_EXPORT HeaderNumber {
 public:
  // None. Not defaulted, since g++ 12 crashes at that.
  HeaderNumber() noexcept {}
  // That member, or the result of that function.
  template <class Get>
  requires(!std::same_as<std::remove_cvref_t<Get>, HeaderNumber> &&
           std::invocable<const Get&, const Header&>)
      HeaderNumber(Get get)  // NOLINT: so that {.id = &Header::id} does
      : get_([get = std::move(get)](const Header& header) {
          return internal::frame_number(std::invoke(get, header));
        }) {}

  // Whether there is one; and what it is in that header.
  explicit operator bool() const noexcept { return get_ != nullptr; }
  std::uint64_t operator()(const Header& header) const { return get_(header); }

 private:
  std::function<std::uint64_t(const Header&)> get_;
};

template <class Header>
struct TCPIP_EXPORT FrameOptions {
  HeaderNumber<Header> id;  // which frame it is
  // How long the frame is, in bytes: without the header, or with it. At most
  // one of the two. Without both, a body is as long as its struct.
  HeaderNumber<Header> body_length = {};
  HeaderNumber<Header> frame_length = {};
  // The longest body that is skipped.
  std::size_t max_body = kDefaultLimit;
  Log log = {};  // gets the frames that were skipped
};

namespace internal {

// A FrameDispatcher without the types of its header and bodies.
class TCPIP_EXPORT FrameReader {
 public:
  // What a header says.
  struct Frame {
    std::uint64_t id = 0;
    std::optional<std::uint64_t> length = {};  // of the body
    bool is_length_possible = true;
  };
  class Handler {
   public:
    Handler() = default;
    virtual ~Handler() = default;
    Handler(const Handler&) = delete;
    Handler& operator=(const Handler&) = delete;
    // Where the body is read to.
    virtual std::span<std::byte> body() noexcept = 0;
    virtual void call(const Connection& connection) = 0;
  };

  // `header` is where headers are read to, `look` what the one there says.
  FrameReader(std::span<std::byte> header, std::function<Frame()> look,
              std::size_t max_body, Log log);
  ~FrameReader();
  FrameReader(const FrameReader&) = delete;
  FrameReader& operator=(const FrameReader&) = delete;

  void add(std::uint64_t id, std::unique_ptr<Handler> handler);
  void set_otherwise(std::function<void(const Connection&)> handler);
  bool read_one(const Connection& connection, const Wait& wait);
  FrameCounts counts() const;

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace internal

// The body of a frame that has none.
struct TCPIP_EXPORT NoBody {};

template <class Header>
class TCPIP_EXPORT FrameDispatcher final {
 public:
  using Options = FrameOptions<Header>;

  // Throws std::invalid_argument without an id, and with both lengths.
  explicit FrameDispatcher(Options options)
      : options_(checked(std::move(options))),
        reader_(
            internal::wire_target(header_), [this] { return look(); },
            options_.max_body, options_.log) {}
  FrameDispatcher(const FrameDispatcher&) = delete;
  FrameDispatcher& operator=(const FrameDispatcher&) = delete;

  // Says what is called for the frames of an id:
  //   handler(const Connection&, const Header&, const Body&), or
  //   handler(const Connection&, const Header&) if they have no body.
  // The references are valid during the call. Throws std::invalid_argument if
  // the id has a handler already.
  template <class Body = NoBody, class Id, class Handler>
  void on(const Id& id, Handler handler) {
    reader_.add(internal::frame_number(id),
                std::make_unique<HandlerOf<Body, Handler>>(header_,
                                                           std::move(handler)));
  }

  // Says what is called for a frame that is skipped, since it has no handler or
  // is of the wrong length, once that is done: to answer that the frame is not
  // known, or to look at a counter that all headers have.
  //   handler(const Connection&, const Header&)
  // Throws std::invalid_argument the second time.
  template <class Handler>
  void otherwise(Handler handler) {
    reader_.set_otherwise(
        [this, handler = std::move(handler)](const Connection& from) mutable {
          handler(from, std::as_const(header_));
        });
  }

  // Reads one frame and calls its handler. False if the frame had none, or was
  // of the wrong length, and was skipped. `wait` covers the reading. In the
  // read handler of a read-loop server:
  //   [&](tcpip::Connection& client, std::stop_token stop) {
  //     frames.read_one(client, stop);
  //   }
  //
  // Throws as read_into(). After TimeoutError and CancelledError nothing is
  // lost: the next call goes on with the same frame. On another connection it
  // begins with a header.
  //
  // Throws Error (EBADMSG) for a frame that is to be skipped and whose header
  // tells a body of more than max_body bytes, or a frame shorter than its
  // header. Where the next frame begins is not known then, and so every further
  // call for this connection throws this Error: close the connection.
  //
  // What the handler throws comes out of here, and the next call reads the next
  // frame. A handler must not destroy this object. Throws std::logic_error in a
  // handler, and while another thread is in a call.
  bool read_one(const Connection& connection, const Wait& wait = {}) {
    return reader_.read_one(connection, wait);
  }
  // The same for the current connection of a client or server.
  bool read_one(const BaseClientOrServer& endpoint, const Wait& wait = {}) {
    return reader_.read_one(endpoint.connection(), wait);
  }

  // What was read so far.
  FrameCounts counts() const { return reader_.counts(); }

 private:
  template <class Body, class Function>
  class HandlerOf final : public internal::FrameReader::Handler {
   public:
    HandlerOf(const Header& header, Function function)
        : header_(header), function_(std::move(function)) {}
    std::span<std::byte> body() noexcept override {
      if constexpr (kHasBody) {
        return internal::wire_target(body_);
      } else {
        return {};
      }
    }
    void call(const Connection& connection) override {
      if constexpr (kHasBody) {
        function_(connection, header_, std::as_const(body_));
      } else {
        function_(connection, header_);
      }
    }

   private:
    static constexpr bool kHasBody = !std::is_same_v<Body, NoBody>;
    static_assert(
        kHasBody
            ? std::is_invocable_v<Function&, const Connection&, const Header&,
                                  const Body&>
            : std::is_invocable_v<Function&, const Connection&, const Header&>,
        "tcpip: a handler takes (const Connection&, const Header&, const "
        "Body&), or, without a body, (const Connection&, const Header&).");

    const Header& header_;
    Function function_;
    Body body_{};
  };

  static Options checked(Options options) {
    if (!options.id) {
      throw std::invalid_argument("FrameDispatcher: there is no id");
    }
    if (options.body_length && options.frame_length) {
      throw std::invalid_argument(
          "FrameDispatcher: body_length or frame_length, not both");
    }
    return options;
  }

  internal::FrameReader::Frame look() const {
    internal::FrameReader::Frame frame{.id = options_.id(header_)};
    if (options_.body_length) {
      frame.length = options_.body_length(header_);
    } else if (options_.frame_length) {
      const std::uint64_t length = options_.frame_length(header_);
      frame.is_length_possible = length >= sizeof(Header);
      frame.length = frame.is_length_possible ? length - sizeof(Header) : 0;
    }
    return frame;
  }

  const Options options_;
  Header header_{};
  internal::FrameReader reader_;
};

}  // namespace tcpip

#endif  // TCPIP_FRAME_DISPATCHER_H_
