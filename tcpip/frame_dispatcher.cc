#include "tcpip/frame_dispatcher.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <map>
#include <string>
#include <system_error>

#include "tcpip/base/mutex.h"
#include "tcpip/base/peer_log.h"
#include "tcpip/error.h"
#include "tcpip/process_mark.h"
#include "tcpip/stream/call.h"
#include "tcpip/stream/receiver.h"

namespace tcpip::internal {
namespace {

constexpr const char* kReadOne = "read_one";
// Of what is skipped, so much is received at a time.
constexpr std::uint64_t kPiece = 64 * 1024;

}  // namespace

class FrameReader::Impl {
 public:
  Impl(std::span<std::byte> header, std::function<Frame()> look,
       std::size_t max_body, Log log)
      : header_(header),
        look_(std::move(look)),
        max_body_(max_body),
        log_(std::move(log)) {}
  ~Impl() { log_.write_rest(); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  void add(std::uint64_t id, std::unique_ptr<Handler> handler);
  void set_otherwise(std::function<void(const Connection&)> handler);
  bool read_one(const Connection& connection, const Wait& wait);
  FrameCounts counts() const TCPIP_EXCLUDES(mutex_) {
    process_.check("counts");
    const MutexLock lock(mutex_);
    return counts_;
  }

 private:
  class Turn;

  bool read_frame(Receiver& receiver, const Wait& wait);
  void pass_over(const Frame& frame, Handler* handler);
  void skip(Receiver& receiver, const Wait& wait);
  void count(std::uint64_t FrameCounts::*which, std::uint64_t n = 1)
      TCPIP_EXCLUDES(mutex_) {
    const MutexLock lock(mutex_);
    counts_.*which += n;
  }

  const ProcessMark process_;
  const std::span<std::byte> header_;
  const std::function<Frame()> look_;
  const std::size_t max_body_;
  PeerLog log_;
  std::map<std::uint64_t, std::unique_ptr<Handler>> handlers_;
  std::function<void(const Connection&)> otherwise_;
  std::atomic<bool> taken_{false};

  // Of the thread that is in read_one(). Where it is in the stream of
  // connection_: at a header; behind the one in header_; or among bytes that
  // are to be skipped. These are so many, or all that have come.
  enum class Place { kHeader, kBody, kSkipped };
  Connection connection_;
  Place place_ = Place::kHeader;
  std::optional<std::uint64_t> to_skip_;

  mutable Mutex mutex_;
  FrameCounts counts_ TCPIP_GUARDED_BY(mutex_);
};

// While it lives, no other call may begin.
class FrameReader::Impl::Turn {
 public:
  explicit Turn(Impl& impl) : impl_(impl) {
    if (impl_.taken_.exchange(true, std::memory_order_acquire)) {
      throw std::logic_error(
          "FrameDispatcher: read_one() while another call is under way, or in "
          "a handler");
    }
  }
  ~Turn() { impl_.taken_.store(false, std::memory_order_release); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  Impl& impl_;
};

void FrameReader::Impl::add(std::uint64_t id,
                            std::unique_ptr<Handler> handler) {
  if (!handlers_.try_emplace(id, std::move(handler)).second) {
    throw std::invalid_argument(
        fmt::format("FrameDispatcher: frame {} has a handler already", id));
  }
}

void FrameReader::Impl::set_otherwise(
    std::function<void(const Connection&)> handler) {
  if (otherwise_) {
    throw std::invalid_argument(
        "FrameDispatcher: otherwise() was called already");
  }
  otherwise_ = std::move(handler);
}

bool FrameReader::Impl::read_one(const Connection& connection,
                                 const Wait& wait) {
  process_.check(kReadOne);
  const Turn turn(*this);
  if (connection_ != connection) {
    connection_ = connection;
    place_ = Place::kHeader;
  }
  log_.write_due();
  return read_frame(*receiver_of(connection_, kReadOne), wait);
}

bool FrameReader::Impl::read_frame(Receiver& receiver, const Wait& wait) {
  const Call call{kReadOne, wait};
  if (place_ == Place::kHeader) {
    receiver.read_exactly(call, header_);
    place_ = Place::kBody;
  }
  if (place_ == Place::kBody) {
    const Frame frame = look_();
    const auto found = handlers_.find(frame.id);
    Handler* const handler =
        found == handlers_.end() ? nullptr : found->second.get();
    const std::span<std::byte> body =
        handler == nullptr ? std::span<std::byte>() : handler->body();
    if (handler != nullptr && frame.is_length_possible &&
        frame.length.value_or(body.size()) == body.size()) {
      // Without a body, the header may have been the last that came.
      if (!body.empty()) receiver.read_exactly(call, body);
      // First: the handler may throw.
      place_ = Place::kHeader;
      count(&FrameCounts::frames);
      handler->call(connection_);
      return true;
    }
    pass_over(frame, handler);
  }
  skip(receiver, wait);
  if (otherwise_) otherwise_(connection_);
  return false;
}

// For a frame that no handler gets.
void FrameReader::Impl::pass_over(const Frame& frame, Handler* handler) {
  const auto distrust = [&](const std::string& why) {
    throw Error(std::error_code(EBADMSG, std::generic_category()), kReadOne,
                subject_of(connection_),
                fmt::format("the header of frame {} tells {}", frame.id, why));
  };
  // Here place_ stays behind the header: the next call throws again.
  if (!frame.is_length_possible) {
    distrust("a frame that is shorter than the header");
  }
  if (frame.length && *frame.length > max_body_) {
    distrust(fmt::format("a body of {} bytes, and no more than {} are skipped",
                         *frame.length, max_body_));
  }
  to_skip_ = frame.length;
  place_ = Place::kSkipped;
  if (handler != nullptr) {
    count(&FrameCounts::wrong_length);
    log_.write(PeerLine::kWrongLength, LogLevel::kWarning, [&] {
      return fmt::format("frame {} from {} has a body of {} bytes, not of {}",
                         frame.id, subject_of(connection_), *frame.length,
                         handler->body().size());
    });
  } else {
    count(&FrameCounts::unknown);
    log_.write(PeerLine::kUnknownFrame, LogLevel::kWarning, [&] {
      return fmt::format("frame {} from {} is unknown{}", frame.id,
                         subject_of(connection_),
                         frame.length ? "" : "; what has come is dropped");
    });
  }
}

void FrameReader::Impl::skip(Receiver& receiver, const Wait& wait) {
  if (!to_skip_) {
    count(&FrameCounts::flushed_bytes, receiver.discard(kReadOne));
    to_skip_ = 0;
  }
  while (*to_skip_ > 0) {
    const auto piece =
        static_cast<std::size_t>(std::min<std::uint64_t>(*to_skip_, kPiece));
    const std::size_t dropped =
        receiver.read_view({kReadOne, wait}, piece).size();
    if (dropped == 0) {
      throw IncompleteReadError(kReadOne, subject_of(connection_), {},
                                static_cast<std::size_t>(*to_skip_));
    }
    *to_skip_ -= dropped;
  }
  place_ = Place::kHeader;
}

FrameReader::FrameReader(std::span<std::byte> header,
                         std::function<Frame()> look, std::size_t max_body,
                         Log log)
    : impl_(std::make_unique<Impl>(header, std::move(look), max_body,
                                   std::move(log))) {}
FrameReader::~FrameReader() = default;

void FrameReader::add(std::uint64_t id, std::unique_ptr<Handler> handler) {
  impl_->add(id, std::move(handler));
}
void FrameReader::set_otherwise(
    std::function<void(const Connection&)> handler) {
  impl_->set_otherwise(std::move(handler));
}
bool FrameReader::read_one(const Connection& connection, const Wait& wait) {
  return impl_->read_one(connection, wait);
}
FrameCounts FrameReader::counts() const { return impl_->counts(); }

}  // namespace tcpip::internal
