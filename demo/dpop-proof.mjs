// Checks DPoP proofs as a resource server has to (RFC 9449 4.3), with nothing but node:crypto.

import { createHash, createPublicKey, verify } from 'node:crypto'

/**
 * @typedef {object} Expected
 * @property {string} method
 * @property {string} url Without query and fragment
 * @property {string} [accessToken] The one that the request carries
 * @property {string | undefined} [nonce] The one that the server has given out, if it demands any
 * @property {number} [now] ms since 1970
 *
 * @typedef {object} Proof
 * @property {string} jkt Thumbprint of the key that signed it
 * @property {string} jti
 * @property {Record<string, any>} header
 * @property {Record<string, any>} claims
 */

/** Seconds that a proof may be old, or early. */
const TOLERANCE = 60

/** Why a proof is refused, as RFC 9449 calls it. */
export class ProofError extends Error {
  /** @param {'invalid_dpop_proof' | 'use_dpop_nonce'} code @param {string} message */
  constructor(code, message) {
    super(message)
    this.code = code
  }
}

/** @param {string} text */
const hashOf = (text) => createHash('sha256').update(text).digest('base64url')

/** RFC 7638. @param {Record<string, any>} jwk */
export const thumbprintOf = ({ crv, kty, x, y }) => hashOf(JSON.stringify({ crv, kty, x, y }))

/**
 * @param {string | undefined} proof The header
 * @param {Expected} expected
 * @returns {Proof}
 * @throws {ProofError}
 */
export function checkProof(proof, { method, url, accessToken, nonce, now = Date.now() }) {
  const parts = (proof ?? '').split('.')
  const { header, claims } = decode(parts)
  const { alg, jwk = {}, typ } = header
  must(typ === 'dpop+jwt' && alg === 'ES256', 'typ or alg')
  // A private key has d, and a symmetric one k.
  must(Object.keys(jwk).sort().join(' ') === 'crv kty x y', 'jwk')
  must(isSignedBy(parts, jwk), 'signature')
  must(typeof claims.jti === 'string' && claims.jti.length >= 16, 'jti')
  must(claims.htm === method, 'htm')
  must(claims.htu === url, `htu is ${claims.htu}, not ${url}`)
  must(accessToken === undefined || claims.ath === hashOf(accessToken), 'ath')
  must(accessToken !== undefined || !('ath' in claims), 'ath without a token')
  if (nonce !== undefined && claims.nonce !== nonce) {
    throw new ProofError('use_dpop_nonce', 'A nonce is needed')
  }
  // With a nonce, its age is the server's own.
  const age = Math.abs(now / 1000 - claims.iat)
  must(Number.isInteger(claims.iat) && (nonce !== undefined || age <= TOLERANCE), 'iat')
  return { jkt: thumbprintOf(jwk), jti: claims.jti, header, claims }
}

/** @param {unknown} condition @param {string} what */
function must(condition, what) {
  if (!condition) throw new ProofError('invalid_dpop_proof', what)
}

/** @param {string[]} parts @returns {{ header: Record<string, any>, claims: Record<string, any> }} */
function decode(parts) {
  try {
    const [header, claims] = parts.map((part) => Buffer.from(part, 'base64url').toString())
    return { header: JSON.parse(header ?? ''), claims: JSON.parse(claims ?? '') }
  } catch {
    throw new ProofError('invalid_dpop_proof', 'Not a JWT')
  }
}

/** @param {string[]} parts @param {any} jwk */
function isSignedBy([header, claims, signature], jwk) {
  try {
    const key = createPublicKey({ key: jwk, format: 'jwk' })
    const input = Buffer.from(`${header}.${claims}`)
    const bytes = Buffer.from(signature ?? '', 'base64url')
    return verify('sha256', input, { key, dsaEncoding: 'ieee-p1363' }, bytes)
  } catch {
    return false
  }
}
