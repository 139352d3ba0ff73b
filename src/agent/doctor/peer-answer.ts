// The report that agents exchange for doctor over RPC. It holds no secrets. A peer of any version may send it, so it is checked.

import { VxmeshError } from '#model/errors.ts'
import type { PeerAnswer } from './facts.ts'

/** Of this version of the digest (allocator/digest.ts): a host of another release answers in words that it does not know it. */
export const DOCTOR_METHOD = 'doctor-2'

/** Tunnels in a report: enough that two hosts find a common one. */
export const MAX_TUNNELS = 256

export type LocalReport = {
  readonly timeMs: number
  readonly index: number
  readonly digest: string
  readonly underlayMtu: number
  /** Packets received from each network's tunnel. */
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

/** Assumes that the peer read its clock halfway through the round trip. */
export function peerAnswer(report: LocalReport, sentMs: number, receivedMs: number): PeerAnswer {
  const { timeMs, index, digest, underlayMtu } = report
  return {
    clockMs: Math.round(timeMs - (sentMs + receivedMs) / 2),
    roundTripMs: Math.round(receivedMs - sentMs),
    ...{ index, digest, underlayMtu }
  }
}

/** Packets received, by VNI, from the text of /proc/net/dev (proc(5)), whose second column they are. */
export function readTunnels(devices: string): readonly (readonly [number, number])[] {
  const found: (readonly [number, number])[] = []
  for (const [, hex = '', received = ''] of devices.matchAll(/^\s*vx([0-9a-f]{6}):\s*\d+\s+(\d+)/gm)) {
    if (found.length < MAX_TUNNELS) found.push([Number.parseInt(hex, 16), Number(received)])
  }
  return found
}
