/* nng: a raw replier that sends each message back. */

#include "tcp.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>

static void done(int code)
{
    if (code != 0)
        errx(1, "%s", nng_strerror(code));
}

int main(void)
{
    nng_socket replier;
    nng_listener listener;
    nng_sockaddr address;
    done(nng_rep0_open_raw(&replier));
    done(nng_listener_create(&listener, replier, "tcp://127.0.0.1:0"));
    done(nng_listener_start(listener, 0));
    done(nng_listener_get_addr(listener, NNG_OPT_LOCADDR, &address));
    printf("%d\n", ntohs(address.s_in.sa_port));
    fflush(stdout);
    for (;;) {
        nng_msg *message;
        done(nng_recvmsg(replier, &message, 0));
        done(nng_sendmsg(replier, message, 0));
    }
}
