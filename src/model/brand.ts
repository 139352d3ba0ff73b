// Nominal types over primitives: a Vni is a number, but not every number is a Vni.

declare const brand: unique symbol

export type Brand<T, Name extends string> = T & { readonly [brand]: Name }
