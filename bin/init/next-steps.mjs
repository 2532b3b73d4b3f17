// What init says at its end: what to write, and what to register at the authorization server.

import { basename } from 'node:path'
import { workerCall } from './worker-script.mjs'

/**
 * @typedef {object} Site
 * @property {string} authPath
 * @property {string} [written] The worker script that init has just written
 * @property {string} [existing] The one that was there already
 * @property {boolean} isBundled
 */

/** @param {import('./worker-script.mjs').WorkerFacts} facts @param {Site} site */
const workerStep = (facts, { written, existing, isBundled }) => {
  if (written) {
    const { server, clientId } = facts
    const lacking = [server ? '' : 'issuer', clientId ? '' : 'clientId', 'apis'].filter(Boolean)
    return `Next, in ${written}: ${lacking.join(', ')}.`
  }
  const call = workerCall(facts, isBundled).replaceAll(/^(?=.)/gm, '  ')
  return existing
    ? `Next, ${existing} is there already; at its top:\n\n${call}`
    : `Next, the script of your worker, at its top:\n\n${call}`
}

/** @param {import('./worker-script.mjs').WorkerFacts} facts @param {Site} site */
const registration = ({ server, clientId }, { authPath }) => {
  const grants = server?.metadata['grant_types_supported']
  const refreshes = !Array.isArray(grants) || grants.includes('refresh_token')
  const client = `${clientId ? ` the client ${clientId}` : ' a client'}${server ? ` at ${server.issuer}` : ' at the authorization server'}`
  return `Register${client}, for a site at https://app.example.com/:
  client                    public: no secret (token_endpoint_auth_method none), PKCE with S256
  grant types               authorization_code${refreshes ? ', refresh_token' : ''}
  redirect URI              https://app.example.com/${authPath}callback.html
  post-logout redirect URI  https://app.example.com/${authPath}logout.html
  web origin (CORS)         https://app.example.com
and the same for development, best as a second client, with the address of your dev server, such
as http://localhost:5173/${authPath}callback.html. Exact URIs, without wildcards; no others.`
}

/** @param {import('./worker-script.mjs').WorkerFacts} facts @param {Site} site */
export const nextSteps = (facts, site) => `
${workerStep(facts, site)}

The code of your page:

  import { createTokenManager } from 'tokenward'

  const auth = createTokenManager('/${basename(site.existing ?? 'sw.js').replace(/\.ts$/, '.js')}')
  signInButton.onclick = () => auth.login()
  if (await auth.session()) {
    await auth.ready
    await fetch('https://api.example.com/orders') // carries the access token
  }

${registration(facts, site)}

Once it is online: npx tokenward doctor https://app.example.com/`
