// What agents tell each other for doctor, over their RPC. Facts without secrets; checked, for the peer may be of any version.

import { VxmeshError } from '#model/errors.ts'
import type { PeerAnswer } from './facts.ts'

export const DOCTOR_METHOD = 'doctor'

/** Tunnels that are told of: enough to have one in common. */
export const MAX_TUNNELS = 256

export type LocalReport = {
  readonly timeMs: number
  readonly index: number
  readonly digest: string
  readonly underlayMtu: number
  /** Packets that came out of each network's tunnel, by VNI. */
  readonly tunnels: readonly (readonly [vni: number, received: number])[]
}

/** @throws ERR_PEER on anything else */
export function readLocalReport(answer: unknown): LocalReport {
  const { timeMs, index, digest, underlayMtu, tunnels } = (answer ?? {}) as Record<string, unknown>
  const counts = [timeMs, index, underlayMtu].every(Number.isSafeInteger)
  if (!counts || typeof digest !== 'string' || !Array.isArray(tunnels) || tunnels.length > MAX_TUNNELS) {
    throw new VxmeshError('ERR_PEER', 'malformed answer for doctor')
  }
  const pairs: readonly unknown[] = tunnels
  if (!pairs.every(pair => Array.isArray(pair) && pair.length === 2 && pair.every(Number.isSafeInteger))) {
    throw new VxmeshError('ERR_PEER', 'malformed tunnels for doctor')
  }
  return answer as LocalReport
}

/** Its clock is read in the middle of the way there and back. */
export function peerAnswer(told: LocalReport, sentMs: number, receivedMs: number): PeerAnswer {
  const { timeMs, index, digest, underlayMtu } = told
  return {
    clockMs: Math.round(timeMs - (sentMs + receivedMs) / 2),
    roundTripMs: Math.round(receivedMs - sentMs),
    ...{ index, digest, underlayMtu }
  }
}

/** By VNI, from /proc/net/dev (proc(5)): the second column is packets received. */
export function readTunnels(devices: string): readonly (readonly [number, number])[] {
  const found: (readonly [number, number])[] = []
  for (const [, hex = '', received = ''] of devices.matchAll(/^\s*vx([0-9a-f]{6}):\s*\d+\s+(\d+)/gm)) {
    if (found.length < MAX_TUNNELS) found.push([Number.parseInt(hex, 16), Number(received)])
  }
  return found
}
