/**
 * How servers read the proofs of tokens that are bound to a key (RFC 9449).
 */
import type { Answer, ServerKind } from './model-server.js'

/** After so many ms there is a new nonce; the one before it is still taken. */
const nonceLife = 300_000

/** The header or the claims of a JWT. */
export const partOfJwt = (jwt: string, index: 0 | 1) =>
  JSON.parse(Buffer.from(jwt.split('.')[index] ?? '', 'base64url').toString())

export const createProofs = ({ dpop }: ServerKind, now: () => number) => {
  /** What was there before. */
  const seen = new Set<string>()
  const nonceNow = (more = 0) => `nonce-${Math.floor(now() / nonceLife) + more}`

  return {
    /** The key that has signed a proof, or what is wrong with it (RFC 9449 8). */
    readProof: (proof: string | undefined): { key?: string; error?: string } => {
      if (!dpop) return {}
      if (proof === undefined) return { error: 'invalid_dpop_proof' }
      const { jti, nonce } = partOfJwt(proof, 1)
      const isNonce = nonce === nonceNow() || nonce === nonceNow(-1)
      if (dpop === 'with nonces' && !isNonce) return { error: 'use_dpop_nonce' }
      if (seen.has(jti)) return { error: 'invalid_dpop_proof' }
      seen.add(jti)
      return { key: partOfJwt(proof, 0).jwk.x }
    },

    withNonce: (answer: Answer): Answer =>
      dpop === 'with nonces'
        ? { ...answer, headers: { ...answer.headers, 'dpop-nonce': nonceNow() } }
        : answer,
  }
}
