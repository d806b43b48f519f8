#include "cluster/auth.h"

#include <ctype.h>
#include <stdint.h>
#include <string.h>

#include <crypt.h>
#include <openssl/crypto.h>

#include "cluster/node_options.h"
#include "cluster/sha256.h"

bool auth_is_required(const struct node_options *o)
{
    return o->user != NULL || o->token != NULL || o->users_count > 0;
}

bool auth_is_bcrypt(const char *s)
{
    return s[0] == '$' && s[1] == '2' && s[2] != '\0' && strchr("abxy", s[2]) != NULL &&
           s[3] == '$' && isdigit((unsigned char)s[4]) && isdigit((unsigned char)s[5]) &&
           s[6] == '$';
}

bool auth_is_equal(const char *expected, const char *given)
{
    /* Digests have one length: nothing about the expected secret shows in the time. */
    uint8_t a[SHA256_BYTES];
    uint8_t b[SHA256_BYTES];
    sha256_str(expected, a);
    sha256_str(given, b);
    return CRYPTO_memcmp(a, b, sizeof a) == 0;
}

static enum auth_result check_secret(const char *expected, const char *given, const char **ret_hash,
                                     const char **ret_secret)
{
    if (given == NULL) {
        return AUTH_REFUSED;
    }
    if (auth_is_bcrypt(expected)) {
        if (strlen(given) > AUTH_BCRYPT_INPUT_MAX) {
            return AUTH_REFUSED;
        }
        *ret_hash = expected;
        *ret_secret = given;
        return AUTH_BCRYPT;
    }
    return auth_is_equal(expected, given) ? AUTH_ACCEPTED : AUTH_REFUSED;
}

enum auth_result auth_check(const struct node_options *o, const struct auth_credentials *given,
                            const char **ret_hash, const char **ret_secret)
{
    if (!auth_is_required(o)) {
        return AUTH_ACCEPTED;
    }
    if (o->users_count > 0) {
        if (given->user == NULL) {
            return AUTH_REFUSED;
        }
        const struct node_user *found = NULL;
        for (uint32_t i = 0; i < o->users_count; i++) {
            if (auth_is_equal(o->users[i].user, given->user)) {
                found = &o->users[i];
            }
        }
        return found == NULL
                   ? AUTH_REFUSED
                   : check_secret(found->pass == NULL ? "" : found->pass,
                                  given->pass == NULL ? "" : given->pass, ret_hash, ret_secret);
    }
    if (o->token != NULL) {
        return check_secret(o->token, given->token, ret_hash, ret_secret);
    }
    if (given->user == NULL || !auth_is_equal(o->user, given->user)) {
        return AUTH_REFUSED;
    }
    return check_secret(o->pass == NULL ? "" : o->pass, given->pass == NULL ? "" : given->pass,
                        ret_hash, ret_secret);
}

bool auth_bcrypt(const char *hash, const char *secret)
{
    struct crypt_data data;
    memset(&data, 0, sizeof data);
    const char *made = crypt_r(secret, hash, &data);
    bool is_equal = made != NULL && strlen(made) == strlen(hash) &&
                    CRYPTO_memcmp(made, hash, strlen(hash)) == 0;
    OPENSSL_cleanse(&data, sizeof data);
    return is_equal;
}
