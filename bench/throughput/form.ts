// The forms in which two containers can be connected, and the containers between which each is measured.

import { countReplies } from '../../test/lab/ping.ts'
import { waitFor } from '../../test/lab/wait.ts'

/**
 * - veth: no overlay: routed by both hosts, or one veth pair from container to container
 * - routed: a VXLAN device inside the container, without bridge or veth
 * - hand: bridge, VXLAN device and veths made with ip(8), without any rule
 * - linux: driver linux, guarded by nftables
 * - linux-bpf: driver linux, guarded by eBPF programs
 * - ovs: driver ovs with the kernel datapath
 * - bpf: driver bpf, whose programs are its guard
 */
export type FormName = 'veth' | 'routed' | 'hand' | 'linux' | 'linux-bpf' | 'ovs' | 'bpf'

/** Between containers on two hosts, or on one. */
export type Reach = 'hosts' | 'local'

export type End = { readonly namespace: string; readonly address: string }
export type Path = {
  readonly from: End
  readonly to: End
  /** Where the client sends to, if not to the other end itself: a service that leads there. */
  readonly by?: { readonly address: string; readonly port: number }
}

export type Form = {
  readonly name: FormName
  /** `local` is absent where the form has no meaning on one host. */
  readonly paths: { readonly hosts: Path; readonly local?: Path }
}

/** Of every container of the bench, whatever the underlay allows, so that all forms send segments of the same size. */
export const CONTAINER_MTU = 1450

/** Waits until a path carries packets both ways, with all addresses resolved. @throws Error when it does not */
export async function waitReachable(form: FormName, { from, to }: Path): Promise<void> {
  await waitFor(`form ${form} connects its containers`, async () => (await countReplies(from, to.address)) === 3, {
    timeoutMs: 30_000
  })
}
