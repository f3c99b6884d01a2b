'use strict'; if (typeof module !== 'undefined') module.exports = {};
