// What stops a page, with what the visitor can do about it.

export class Problem extends Error {
  /** `remedy` is "pick" where choosing another file may help. */
  constructor(message, { remedy = "", cause } = {}) {
    super(message, { cause });
    this.remedy = remedy;
  }
}
