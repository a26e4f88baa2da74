/* The decoder and the encoder, as C programs with an event loop of their own use them. */
#include "check.h"

#include <sys/uio.h>

/* Ends the program where a view has another header, without a NUL after it, or another body. */
#define CHECK_VIEW(expected_header, expected_body, view)                                 \
    do {                                                                                 \
        const struct frame_view *seen = (view);                                          \
        CHECK_BYTES(expected_header, seen->header, seen->header_len);                    \
        CHECK(seen->header[seen->header_len] == '\0');                                   \
        CHECK_BYTES(expected_body, seen->body, seen->body_len);                          \
    } while (0)

#define FIRST "\x15\0\0\0{\"data_size\":5,\"n\":1}hello"
#define SECOND "\x02\0\0\0{}"
#define THIRD " \0\0\0 {\"n\" : 3, \"data_size\" : 3 }    abc"
#define STREAM FIRST SECOND THIRD
#define STREAM_SIZE (sizeof STREAM - 1)

static struct frame_decoder *new_decoder(const struct frame_options *opts)
{
    struct frame_decoder *decoder;
    CHECK_RETURNS(0, frame_decoder_new(opts, &decoder));
    return decoder;
}

/* Takes in len bytes, as read(2) would put them. */
static void put(struct frame_decoder *decoder, const char *bytes, size_t len)
{
    while (len > 0) {
        size_t room;
        void *space = frame_decoder_reserve(decoder, &room);
        CHECK(space != NULL && room > 0);
        room = room < len ? room : len;
        memcpy(space, bytes, room);
        CHECK_RETURNS(0, frame_decoder_commit(decoder, room));
        bytes += room;
        len -= room;
    }
}

static struct frame_decoder *fed_with(const char *bytes, size_t len)
{
    struct frame_decoder *decoder = new_decoder(NULL);
    put(decoder, bytes, len);
    return decoder;
}

static void frames_that_came_together_are_lent_together(void)
{
    struct frame_decoder *decoder = fed_with(STREAM, STREAM_SIZE);
    struct frame_view views[4];

    CHECK_RETURNS(3, frame_decoder_next(decoder, views, 4));
    CHECK_VIEW("{\"data_size\":5,\"n\":1}", "hello", &views[0]);
    CHECK(strcmp(views[1].header, "{}") == 0 && views[1].header_len == 2);
    CHECK(views[1].body == NULL && views[1].body_len == 0);
    CHECK_VIEW(" {\"n\" : 3, \"data_size\" : 3 }    ", "abc", &views[2]);
    CHECK_RETURNS(0, frame_decoder_next(decoder, views, 4));
    CHECK_RETURNS(FRAME_ECLOSED, frame_decoder_end(decoder));
    frame_decoder_free(decoder);

    decoder = fed_with(STREAM, STREAM_SIZE);
    CHECK_RETURNS(2, frame_decoder_next(decoder, views, 2));
    CHECK_RETURNS(1, frame_decoder_next(decoder, views, 2));
    CHECK_VIEW(" {\"n\" : 3, \"data_size\" : 3 }    ", "abc", &views[0]);
    frame_decoder_free(decoder);
}

static void a_split_changes_nothing(void)
{
    size_t cut, i;
    for (cut = 0; cut <= STREAM_SIZE; cut++) {
        struct frame_decoder *decoder = new_decoder(NULL);
        size_t sizes[2], at = 0, taken = 0;
        sizes[0] = cut;
        sizes[1] = STREAM_SIZE - cut;
        for (i = 0; i < 2; i++) {
            struct frame_view views[4];
            int64_t count;
            put(decoder, STREAM + at, sizes[i]);
            at += sizes[i];
            count = frame_decoder_next(decoder, views, 4);
            CHECK(count >= 0);
            taken += (size_t)count;
            if (count > 0 && taken == 3)
                CHECK_VIEW(" {\"n\" : 3, \"data_size\" : 3 }    ", "abc", &views[count - 1]);
        }
        CHECK(taken == 3);
        CHECK_RETURNS(FRAME_ECLOSED, frame_decoder_end(decoder));
        frame_decoder_free(decoder);
    }
}

static void space_is_for_one_read(void)
{
    struct frame_decoder *decoder = new_decoder(NULL);
    struct frame_view view;
    size_t room = 0;
    char *space;

    CHECK_RETURNS(FRAME_EINVAL, frame_decoder_commit(decoder, 1));
    space = frame_decoder_reserve(decoder, &room);
    CHECK_RETURNS(FRAME_EINVAL, frame_decoder_commit(decoder, room + 1));
    memcpy(space, FIRST, sizeof FIRST - 1);
    CHECK_RETURNS(0, frame_decoder_commit(decoder, sizeof FIRST - 1));
    CHECK_RETURNS(FRAME_EINVAL, frame_decoder_commit(decoder, 1));
    CHECK(frame_decoder_reserve(decoder, NULL) != NULL);
    CHECK_RETURNS(1, frame_decoder_next(decoder, &view, 1));
    CHECK_RETURNS(FRAME_EINVAL, frame_decoder_commit(decoder, 1));
    CHECK_VIEW("{\"data_size\":5,\"n\":1}", "hello", &view);
    CHECK_RETURNS(0, frame_decoder_commit(decoder, 0));
    frame_decoder_free(decoder);
}

/* Room is for what came, whatever was declared, and is given back. */
static void space_follows_what_comes(void)
{
    static const char huge[] = "\x18\0\0\0{\"data_size\":4294967296}";
    struct frame_options unlimited = FRAME_OPTIONS_INIT;
    struct frame_decoder *decoder;
    struct frame_view view;
    size_t room, largest, total = 0;
    unlimited.max_body = FRAME_NO_LIMIT;
    decoder = new_decoder(&unlimited);

    put(decoder, huge, sizeof huge - 1);
    CHECK_RETURNS(0, frame_decoder_next(decoder, &view, 1));
    CHECK(frame_decoder_reserve(decoder, &room) != NULL && room <= 8192);
    while (total < 4 << 20) {
        void *space = frame_decoder_reserve(decoder, &room);
        CHECK(space != NULL && room <= 3 * total + 2 * 8192 + 131072);
        memset(space, 'x', room);
        CHECK_RETURNS(0, frame_decoder_commit(decoder, room));
        CHECK_RETURNS(0, frame_decoder_next(decoder, &view, 1));
        total += room;
    }
    frame_decoder_free(decoder);

    decoder = new_decoder(NULL);
    put(decoder, "\x15\0\0\0{\"data_size\":4194304}", 25);
    for (total = 0; total < 4 << 20; total += room) {
        void *space = frame_decoder_reserve(decoder, &room);
        room = room < (4 << 20) - total ? room : (4 << 20) - total;
        memset(space, 'x', room);
        CHECK_RETURNS(0, frame_decoder_commit(decoder, room));
    }
    CHECK_RETURNS(1, frame_decoder_next(decoder, &view, 1));
    CHECK(view.body_len == 4 << 20);
    CHECK(frame_decoder_reserve(decoder, &largest) != NULL && largest <= 131072);
    frame_decoder_free(decoder);
}

static void an_error_comes_after_the_frames_before_it_and_sticks(void)
{
    static const struct {
        const char *bytes;
        size_t len;
        int code;
    } bad[] = {
        {"\0\0\0\0", 4, FRAME_EBADLENGTH},
        {"\xff\xff\xff\xff", 4, FRAME_EBADLENGTH},
        {"GET / HTTP/1.1", 14, FRAME_ETOOBIG},
        {"\x16\0\0\0{\"data_size\":67108865}", 26, FRAME_ETOOBIG},
        {"\x02\0\0\0[]", 6, FRAME_EBADJSON},
        {"\x10\0\0\0{\"data_size\":-1}", 20, FRAME_EBADFIELD},
    };
    size_t i, room;
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct frame_decoder *decoder = fed_with(STREAM, STREAM_SIZE);
        struct frame_view views[4];
        const void *piece;
        put(decoder, bad[i].bytes, bad[i].len);
        CHECK_RETURNS(3, frame_decoder_next(decoder, views, 4));
        CHECK_VIEW("{\"data_size\":5,\"n\":1}", "hello", &views[0]);
        CHECK_RETURNS(bad[i].code, frame_decoder_next(decoder, views, 4));
        CHECK_RETURNS(bad[i].code, frame_decoder_next(decoder, views, 4));
        CHECK_RETURNS(bad[i].code, frame_decoder_next_header(decoder, views, NULL));
        CHECK(frame_decoder_reserve(decoder, &room) == NULL && room == 0);
        CHECK_RETURNS(bad[i].code, frame_decoder_end(decoder));
        CHECK_RETURNS(FRAME_ESTATE, frame_decoder_body(decoder, &piece));
        frame_decoder_free(decoder);
    }
}

static void a_body_is_taken_in_pieces(void)
{
    struct frame_decoder *decoder = fed_with(FIRST, sizeof FIRST - 4);
    struct frame_view view;
    const void *piece = &view;
    uint64_t body_len = 99;

    CHECK_RETURNS(FRAME_ESTATE, frame_decoder_body(decoder, &piece));
    CHECK(piece == NULL);
    CHECK_RETURNS(1, frame_decoder_next_header(decoder, &view, &body_len));
    CHECK(strcmp(view.header, "{\"data_size\":5,\"n\":1}") == 0 && view.header_len == 21);
    CHECK(view.body == NULL && view.body_len == 0 && body_len == 5);
    CHECK_RETURNS(FRAME_ESTATE, frame_decoder_next(decoder, &view, 1));
    CHECK_RETURNS(FRAME_ESTATE, frame_decoder_next_header(decoder, &view, NULL));
    CHECK_RETURNS(2, frame_decoder_body(decoder, &piece));
    CHECK(memcmp(piece, "he", 2) == 0);
    CHECK_RETURNS(FRAME_ETIMEDOUT, frame_decoder_body(decoder, &piece));
    CHECK(piece == NULL);

    put(decoder, "llo" SECOND, 9);
    CHECK_RETURNS(3, frame_decoder_body(decoder, &piece));
    CHECK(memcmp(piece, "llo", 3) == 0);
    CHECK_RETURNS(0, frame_decoder_body(decoder, &piece));
    CHECK_RETURNS(0, frame_decoder_body(decoder, &piece));
    CHECK_RETURNS(1, frame_decoder_next_header(decoder, &view, &body_len));
    CHECK(strcmp(view.header, "{}") == 0 && body_len == 0);
    CHECK_RETURNS(0, frame_decoder_body(decoder, &piece));
    CHECK_RETURNS(0, frame_decoder_next_header(decoder, &view, NULL));
    CHECK_RETURNS(FRAME_ECLOSED, frame_decoder_end(decoder));
    frame_decoder_free(decoder);
}

static void the_end_tells_where_it_is(void)
{
    size_t cut;
    struct frame_view view;
    struct frame_decoder *decoder;
    for (cut = 0; cut < sizeof FIRST; cut++) {
        int whole = cut == sizeof FIRST - 1;
        int code = cut == 0 || whole ? FRAME_ECLOSED : FRAME_ETRUNCATED;
        decoder = fed_with(FIRST, cut);
        CHECK_RETURNS(whole, frame_decoder_next(decoder, &view, 1));
        CHECK_RETURNS(code, frame_decoder_end(decoder));
        if (code == FRAME_ETRUNCATED) {
            CHECK(frame_decoder_reserve(decoder, NULL) == NULL);
            CHECK_RETURNS(code, frame_decoder_next(decoder, &view, 1));
        }
        frame_decoder_free(decoder);
    }

    decoder = fed_with(FIRST, sizeof FIRST - 3);
    CHECK_RETURNS(1, frame_decoder_next_header(decoder, &view, NULL));
    CHECK_RETURNS(FRAME_ETRUNCATED, frame_decoder_end(decoder));
    CHECK(strstr(frame_last_error(), "2 bytes of it are missing") != NULL);
    frame_decoder_free(decoder);

    /* What came was not taken, and more came behind it. */
    decoder = fed_with(STREAM, STREAM_SIZE);
    CHECK_RETURNS(1, frame_decoder_next_header(decoder, &view, NULL));
    CHECK_RETURNS(FRAME_ETRUNCATED, frame_decoder_end(decoder));
    frame_decoder_free(decoder);
}

static void the_rest_is_what_was_not_taken(void)
{
    struct frame_decoder *decoder = fed_with(STREAM "plain", STREAM_SIZE + 5);
    struct frame_view views[3];
    size_t len;
    const void *rest = frame_decoder_unread(decoder, &len);
    CHECK_BYTES(STREAM "plain", rest, len);
    CHECK_RETURNS(3, frame_decoder_next(decoder, views, 3));
    rest = frame_decoder_unread(decoder, &len);
    CHECK_BYTES("plain", rest, len);
    CHECK(frame_decoder_unread(decoder, NULL) == rest);
    frame_decoder_free(decoder);

    decoder = new_decoder(NULL);
    CHECK(frame_decoder_unread(decoder, &len) == NULL && len == 0);
    frame_decoder_free(decoder);
}

static void packets_come_in_every_layout(void)
{
    static const struct {
        uint32_t prefix;
        const char *bytes;
        size_t len;
    } layouts[] = {
        {0, "\5\0\0\0", 4},
        {4 | FRAME_PREFIX_BIG_ENDIAN | FRAME_PREFIX_UNSIGNED, "\0\0\0\5", 4},
        {1, "\5", 1},
        {2 | FRAME_PREFIX_BIG_ENDIAN, "\0\5", 2},
        {8, "\5\0\0\0\0\0\0\0", 8},
    };
    size_t i;
    for (i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        struct frame_options opts = FRAME_OPTIONS_INIT;
        struct frame_decoder *decoder;
        struct frame_view views[3];
        char prefix[8];
        opts.format = FRAME_FORMAT_PACKETS;
        opts.prefix = layouts[i].prefix;
        CHECK_RETURNS(layouts[i].len, frame_encode(prefix, sizeof prefix, NULL, 5, &opts));
        CHECK(memcmp(prefix, layouts[i].bytes, layouts[i].len) == 0);

        decoder = new_decoder(&opts);
        put(decoder, prefix, layouts[i].len);
        put(decoder, "hello", 5);
        CHECK_RETURNS(layouts[i].len, frame_encode(prefix, sizeof prefix, NULL, 0, &opts));
        put(decoder, prefix, layouts[i].len);
        CHECK_RETURNS(FRAME_ESTATE, frame_decoder_next_header(decoder, views, NULL));
        CHECK_RETURNS(2, frame_decoder_next(decoder, views, 3));
        CHECK_BYTES("hello", views[0].body, views[0].body_len);
        CHECK(views[0].header == NULL && views[0].header_len == 0);
        CHECK(views[1].body == NULL && views[1].body_len == 0);
        CHECK_RETURNS(FRAME_ECLOSED, frame_decoder_end(decoder));
        frame_decoder_free(decoder);
    }
}

static void the_encoder_writes_all_or_nothing(void)
{
    static const char expected[] = "\x1e\0\0\0{\"data_size\":123456,\"cmd\":\"x\"}";
    struct frame_options opts = FRAME_OPTIONS_INIT;
    char buf[64];
    const int64_t len = sizeof expected - 1;

    CHECK_RETURNS(34, len);
    CHECK_RETURNS(len, frame_encode(NULL, 0, "{\"cmd\":\"x\"}", 123456, NULL));
    memset(buf, '?', sizeof buf);
    CHECK_RETURNS(FRAME_ETOOBIG, frame_encode(buf, (size_t)len - 1, "{\"cmd\":\"x\"}", 123456, NULL));
    CHECK(buf[0] == '?');
    CHECK_RETURNS(len, frame_encode(buf, (size_t)len, "{\"cmd\":\"x\"}", 123456, NULL));
    CHECK(memcmp(buf, expected, (size_t)len) == 0 && buf[len] == '?');
    CHECK_RETURNS(19, frame_encode(buf, sizeof buf, NULL, 0, NULL));
    CHECK(memcmp(buf, "\x0f\0\0\0{\"data_size\":0}", 19) == 0);
    CHECK(frame_encode(buf, sizeof buf, "{\"a\":1}", INT64_MAX, NULL) <= 7 + 43);

    CHECK_RETURNS(FRAME_EBADJSON, frame_encode(buf, sizeof buf, "[]", 0, NULL));
    CHECK_RETURNS(FRAME_EBADFIELD, frame_encode(buf, sizeof buf, "{\"data_size\":1}", 1, NULL));
    CHECK_RETURNS(FRAME_ETOOBIG, frame_encode(buf, sizeof buf, NULL, UINT64_MAX, NULL));
    opts.max_header = 15;
    CHECK_RETURNS(19, frame_encode(buf, sizeof buf, NULL, 9, &opts));
    CHECK_RETURNS(FRAME_ETOOBIG, frame_encode(buf, sizeof buf, NULL, 10, &opts));

    opts = (struct frame_options)FRAME_OPTIONS_INIT;
    opts.format = FRAME_FORMAT_PACKETS;
    CHECK_RETURNS(4, frame_encode(NULL, 0, NULL, 5, &opts));
    CHECK_RETURNS(FRAME_ETOOBIG, frame_encode(buf, sizeof buf, NULL, 1u << 31, &opts));
    CHECK_RETURNS(FRAME_EINVAL, frame_encode(buf, sizeof buf, "{}", 5, &opts));
    opts.timeout_ms = 1;
    CHECK_RETURNS(FRAME_EINVAL, frame_encode(buf, sizeof buf, NULL, 5, &opts));
}

static void what_is_encoded_and_sent_by_hand_is_received(void)
{
    char head[64];
    struct iovec pieces[2];
    struct frame *frame;
    int fd[2];
    int64_t len = frame_encode(head, sizeof head, "{\"cmd\":\"x\"}", 5, NULL);
    socket_pair(fd);
    pieces[0].iov_base = head;
    pieces[0].iov_len = (size_t)len;
    pieces[1].iov_base = (void *)"hello";
    pieces[1].iov_len = 5;
    CHECK(writev(fd[0], pieces, 2) == len + 5);
    CHECK_RETURNS(0, frame_recv(fd[1], &frame, NULL));
    CHECK(strcmp(frame_header(frame, NULL), "{\"data_size\":5,\"cmd\":\"x\"}") == 0);
    CHECK_BODY("hello", frame);
    frame_free(frame);
    close_both(fd);
}

int main(void)
{
    frames_that_came_together_are_lent_together();
    a_split_changes_nothing();
    space_is_for_one_read();
    space_follows_what_comes();
    an_error_comes_after_the_frames_before_it_and_sticks();
    a_body_is_taken_in_pieces();
    the_end_tells_where_it_is();
    the_rest_is_what_was_not_taken();
    packets_come_in_every_layout();
    the_encoder_writes_all_or_nothing();
    what_is_encoded_and_sent_by_hand_is_received();
    return 0;
}
