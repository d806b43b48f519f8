/* Who may connect: single user, token, or a list of users. Comparisons take the same time whatever
 * differs; passwords may be bcrypt hashes, which are slow by design and are checked off the loop.
 */
#ifndef CLUSTER_AUTH_H
#define CLUSTER_AUTH_H
#include <stdbool.h>
#include <stddef.h>

struct node_options;

#define AUTH_BCRYPT_INPUT_MAX 72 /* What bcrypt looks at; longer ones are refused. */

enum auth_result { AUTH_REFUSED, AUTH_ACCEPTED, AUTH_BCRYPT };

/* What a client presents; NULL where it did not. */
struct auth_credentials {
    const char *user;
    const char *pass;
    const char *token;
};

/* Whether CONNECT with credentials is needed at all. */
bool auth_is_required(const struct node_options *o);
/* Decide. For AUTH_BCRYPT, *ret_hash and *ret_secret say what auth_bcrypt must compare; they point
 * into @o and @given. */
enum auth_result auth_check(const struct node_options *o, const struct auth_credentials *given,
                            const char **ret_hash, const char **ret_secret);
/* Whether @secret hashes to @hash. Takes 50 ms and more: from a pool thread. */
bool auth_bcrypt(const char *hash, const char *secret);
/* Whether @s has the form of a bcrypt hash. */
bool auth_is_bcrypt(const char *s);
/* Equal, in a time that depends on the length of @given alone. */
bool auth_is_equal(const char *expected, const char *given);
#endif
