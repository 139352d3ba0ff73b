// Whether services work for the containers of a host. Pure.

import type { OverlayDriver } from '#overlay/driver.ts'

/** Why not; null when they do: the programs at containers' ports lead to them, whoever forwards. */
export function whyNoServices({
  name,
  guard,
  noPrograms
}: Pick<OverlayDriver, 'name' | 'guard' | 'noPrograms'>): string | null {
  if (guard === 'bpf') return null
  return noPrograms ?? `driver ${name}, guard ${guard}: no eBPF programs`
}
