"""The tests. Being a package lets them share ``tests.support``, in the checkout and outside it alike."""
