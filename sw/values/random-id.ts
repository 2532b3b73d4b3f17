import { base64url } from './base64.js'

/** A random value of 256 bits that cannot be guessed: for `state`, tickets, sessions, proofs. */
export const randomId = (): string => base64url(crypto.getRandomValues(new Uint8Array(32)))
