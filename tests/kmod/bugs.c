// SPDX-License-Identifier: GPL-2.0-only
/*
 * Leaks of the same shape as real ones of the kernel's past, beside the device file of files.c,
 * whose open() takes what no release() puts, as in /proc/net/can before
 *   441bc62741e6 ("net/can: single_open_net needs to be paired with single_release_net").
 */
#include <linux/kref.h>
#include <net/net_namespace.h>

#include "planted.h"

#define FAILURES 7
#define PER_NAMESPACE 1259
#define NAMESPACE_OBJECTS 4 /* many more than the frees that its end hides from slabmon */

struct domain {
	struct kref users;
	char names[439];
};

static const struct planted_how per_failure = {
	.site = "planted_domain_alloc",
	.gfp = "kernel",
	.alloc = "kmalloc",
	.free = "never",
	.lasting = true,
};
static const struct planted_how per_namespace = {
	.site = "planted_netns_alloc",
	.gfp = "kernel",
	.alloc = "kmalloc",
	.free = "never",
	.lasting = true,
};

static planted_site struct domain *planted_domain_alloc(void)
{
	struct domain *domain = kmalloc(sizeof(*domain), GFP_KERNEL);

	planted_keep(domain);
	return domain;
}

static planted_site void *planted_netns_alloc(void)
{
	void *object = kmalloc(PER_NAMESPACE, GFP_KERNEL);

	planted_keep(object);
	return object;
}

static void release_domain(struct kref *users)
{
	kfree(container_of(users, struct domain, users));
}

static noinline int set_up_names(struct domain *domain, bool possible)
{
	memset(domain->names, 0, sizeof(domain->names));
	return possible ? 0 : -ENOMEM;
}

/*
 * An error path that puts no reference: 82ecff655e79 ("keys: Fix memory leak in copy_net_ns"),
 * where the key domain of a network namespace stayed if a later step failed.
 */
static noinline int planted_set_up(bool possible)
{
	struct domain *domain = planted_domain_alloc();
	int error;

	if (!domain)
		return -ENOMEM;
	kref_init(&domain->users);
	planted_take(&per_failure, domain, sizeof(*domain));
	error = set_up_names(domain, possible);
	if (error)
		return error; /* the planted bug: no kref_put() */
	planted_forget(&per_failure, domain);
	kref_put(&domain->users, release_domain);
	return 0;
}

static int run_error_path(void)
{
	unsigned int n;

	for (n = 0; n < FAILURES; n++)
		if (planted_set_up(false) != -ENOMEM || planted_set_up(true))
			return -EINVAL;
	return 0;
}

/*
 * What a network namespace is given when it is set up, and nobody takes back at its end:
 * 372675a4a9ac ("vxlan: unregister on namespace exit").
 */
static int planted_netns_init(struct net *net)
{
	int i;

	for (i = 0; i < NAMESPACE_OBJECTS; i++) {
		void *object = planted_netns_alloc();

		if (!object)
			return -ENOMEM;
		planted_take(&per_namespace, object, PER_NAMESPACE);
	}
	return 0;
}

/* The planted bug: no exit. */
static struct pernet_operations operations = {
	.init = planted_netns_init,
};
static bool registered;

static int run_netns_add(void)
{
	int error = registered ? -EEXIST : register_pernet_subsys(&operations);

	registered |= !error;
	return error;
}

const struct planted_scenario planted_bugs[] = {
	{ "error_path", run_error_path },
	{ "netns_add", run_netns_add },
	{},
};

void planted_bugs_exit(void)
{
	if (registered)
		unregister_pernet_subsys(&operations);
	registered = false;
}
